"""The long-running programs of a cluster.

Nothing is recorded about them. Each carries the cluster and its own name in its environment, and so do all its
descendants (containerd's shims), so that a look at /proc finds them all, whatever happened to whoever started them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_CLUSTER = "FETTLE_DEVCLUSTER_OF"
_PROGRAM = "FETTLE_DEVCLUSTER_PROGRAM"
_VERSION = "FETTLE_DEVCLUSTER_VERSION"
# Nothing of the caller's environment (tokens, proxies) belongs into a cluster's programs.
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}
_STOP_TIMEOUT_S = 10


@dataclass(frozen=True)
class Program:
    """A program that is to run, and everything that a change of would need a restart."""

    name: str
    argv: tuple[str, ...]
    namespace: Path
    """The network namespace to run in."""
    configuration: str = ""
    """The text of its configuration files."""
    environment: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def version(self) -> str:
        """Return a digest of all of it; a running program of another version is restarted."""
        content = "\0".join(
            [
                *self.argv,
                str(self.namespace),
                self.configuration,
                *(f"{k}={v}" for k, v in self.environment.items()),
            ]
        )
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Process:
    """A living process of a cluster."""

    pid: int
    program: str
    version: str
    leads: bool
    """Whether it is the program itself and not one of its descendants."""


def ensure(state: Path, program: Program, logs: Path) -> None:
    """Run a program; one that runs already stays, unless it is of another version."""
    process = running(state).get(program.name)
    if process is not None:
        if process.version == program.version:
            return
        stop([process.pid])
    marks = {_CLUSTER: str(state), _PROGRAM: program.name, _VERSION: program.version}
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / f"{program.name}.log").open("ab") as log:
        subprocess.Popen(
            # Not `ip netns exec`, which would hide the cgroup mounts.
            ("nsenter", f"--net={program.namespace}", "--", *program.argv),
            env={**_ENVIRONMENT, **program.environment, **marks},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def running(state: Path) -> dict[str, Process]:
    """Return the cluster's programs that are alive, by name."""
    return {process.program: process for process in family(state) if process.leads}


def family(state: Path) -> Iterator[Process]:
    """Yield every living process of a cluster: its programs and their descendants."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            process = _read(entry, state)
            if process is not None:
                yield process


def stop(pids: Iterable[int], number: signal.Signals = signal.SIGTERM) -> None:
    """End processes and wait until they are gone; what ignores the signal is killed."""
    wanted = list(pids)
    _signal(wanted, number)
    try:
        _wait_for_end(wanted)
    except DevclusterError:
        _signal(wanted, signal.SIGKILL)
        _wait_for_end(wanted)


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and only waits to be noticed by its parent does not."""
    stat = _stat(Path("/proc") / str(pid))
    return stat is not None and stat.status not in {"Z", "X"}


@dataclass(frozen=True)
class _Stat:
    status: str
    session: int


def parse_stat(text: str) -> _Stat:
    """Read the fields of /proc/PID/stat; the program's name, in brackets, may hold spaces and brackets itself."""
    fields = text.rpartition(")")[2].split()
    return _Stat(status=fields[0], session=int(fields[3]))


def parse_environment(content: bytes) -> dict[str, str]:
    """Read /proc/PID/environ."""
    pairs = (entry.partition("=") for entry in content.decode(errors="replace").split("\0") if entry)
    return {name: value for name, _, value in pairs}


def _read(entry: Path, state: Path) -> Process | None:
    stat = _stat(entry)
    if stat is None or stat.status in {"Z", "X"}:
        return None
    try:
        environment = parse_environment((entry / "environ").read_bytes())
    except OSError:
        # It ended meanwhile, or is the kernel's own.
        return None
    if environment.get(_CLUSTER) != str(state):
        return None
    pid = int(entry.name)
    return Process(
        pid=pid,
        program=environment.get(_PROGRAM, ""),
        version=environment.get(_VERSION, ""),
        leads=stat.session == pid,
    )


def _stat(entry: Path) -> _Stat | None:
    try:
        return parse_stat((entry / "stat").read_text())
    except OSError:
        return None


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _wait_for_end(pids: Sequence[int]) -> None:
    wait_until(
        lambda: not any(is_alive(pid) for pid in pids),
        timeout_s=_STOP_TIMEOUT_S,
        every_s=0.02,
        otherwise=lambda: f"these processes do not end: {[pid for pid in pids if is_alive(pid)]}",
    )
