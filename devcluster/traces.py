"""What a cluster's programs leave on the host outside of the cluster's own folders, and how it goes again."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import network
from devcluster.shell import run

if TYPE_CHECKING:
    from collections.abc import Iterable

    from devcluster.plan import Node, Plan

# The kubelet sets these for the whole machine.
SYSCTLS = (
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxbytes",
    "kernel/keys/root_maxkeys",
    "vm/overcommit_memory",
    "vm/panic_on_oom",
)
_SYSCTL_FILE = "sysctls.json"
_LOG_LINKS = Path("/var/log/containers")
_CNI_RESULTS = Path("/var/lib/cni/results")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def record_sysctls(plan: Plan, others: Iterable[Path]) -> None:
    """Remember the machine's settings as they were before the first of all running clusters."""
    record = plan.state / _SYSCTL_FILE
    if record.exists():
        return
    for other in others:
        if (other / _SYSCTL_FILE).exists():
            shutil.copyfile(other / _SYSCTL_FILE, record)
            return
    found = {
        name: file.read_text().strip() for name in SYSCTLS if (file := Path("/proc/sys") / name).exists()
    }
    record.write_text(json.dumps(found, indent=2))


def restore_sysctls(plan: Plan) -> None:
    """Give the machine its settings back."""
    record = plan.state / _SYSCTL_FILE
    if record.exists():
        for name, value in json.loads(record.read_text()).items():
            (Path("/proc/sys") / name).write_text(value)


def forget_last_boot(plan: Plan) -> None:
    """Remove what means nothing any more if the machine was started anew since."""
    marker = plan.run / "boot-id"
    now = _BOOT_ID.read_text()
    if plan.run.exists() and (not marker.exists() or marker.read_text() != now):
        unmount_below(plan.run)
        shutil.rmtree(plan.run)
    plan.run.mkdir(parents=True, exist_ok=True)
    marker.write_text(now)


def remove_shim_sockets(node: Node) -> None:
    """Remove the sockets of a node's containers, which containerd places outside of its own folders."""
    for address in node.run.glob("containerd/io.containerd.runtime.v2.task/*/*/address"):
        Path(address.read_text().strip().removeprefix("unix://")).unlink(missing_ok=True)


def remove_files(plan: Plan) -> None:
    """Remove the files that kubelet and the CNI plugins keep in fixed places."""
    if _LOG_LINKS.is_dir():
        for link in _LOG_LINKS.iterdir():
            if link.is_symlink() and link.readlink().is_relative_to(plan.state):
                link.unlink()
    for node in plan.nodes:
        for result in _CNI_RESULTS.glob(f"{network.cni_network(node)}-*"):
            result.unlink()


def unmount_below(folder: Path) -> None:
    """Unmount everything below a folder, the innermost first."""
    for point in reversed(mounts_below(folder, Path("/proc/self/mountinfo").read_text())):
        run(["umount", "--lazy", point])


def mounts_below(folder: Path, mountinfo: str) -> list[Path]:
    """Return the mount points below a folder, in the order in which they were mounted."""
    points = [Path(_unescaped(line.split()[4])) for line in mountinfo.splitlines()]
    return [point for point in points if point.is_relative_to(folder)]


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
