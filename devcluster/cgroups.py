"""The cgroups below which a node's pods live, in either version of cgroups."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import processes

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOUNTS = Path("/proc/self/mountinfo")


def ensure(name: str) -> None:
    """Make a node's folder in every hierarchy; two kubelets with one folder would remove each other's pods."""
    for hierarchy in hierarchies(_MOUNTS.read_text()):
        folder = hierarchy / name
        folder.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):
            # Version 1 starts a new folder with neither, and then takes no process in.
            file = folder / setting
            if (folder / "cpuset.memory_migrate").exists() and not file.read_text().strip():
                file.write_text((hierarchy / setting).read_text())
        if (hierarchy / "cgroup.controllers").exists():
            _hand_down(hierarchy)
            _hand_down(folder)


def kill(name: str) -> None:
    """Kill every process in a node's folders: what runs in its containers."""
    processes.stop({pid for folder in _folders(name) for pid in _members(folder)}, signal.SIGKILL)


def remove(name: str) -> None:
    """Remove a node's folders, whose processes have ended."""
    for folder in _folders(name):
        for path, _, _ in os.walk(folder, topdown=False):
            Path(path).rmdir()


def hierarchies(mountinfo: str) -> list[Path]:
    """Return where cgroups are mounted, from the text of /proc/self/mountinfo."""
    lines = (line.partition(" - ") for line in mountinfo.splitlines())
    return [
        Path(before.split()[4]) for before, _, after in lines if after.split()[0] in {"cgroup", "cgroup2"}
    ]


def _folders(name: str) -> list[Path]:
    return [hierarchy / name for hierarchy in hierarchies(_MOUNTS.read_text())]


def _members(folder: Path) -> Iterable[int]:
    for path, _, files in os.walk(folder):
        if "cgroup.procs" in files:
            yield from (int(line) for line in (Path(path) / "cgroup.procs").read_text().split())


def _hand_down(folder: Path) -> None:
    """Let the folders below use every controller that this one has (version 2)."""
    for controller in (folder / "cgroup.controllers").read_text().split():
        (folder / "cgroup.subtree_control").write_text(f"+{controller}")
