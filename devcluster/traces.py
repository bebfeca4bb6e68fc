"""What a cluster's programs leave on the host outside of the cluster's own folders, and how it goes again."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import mounts

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
_LOG_LINKS = Path("/var/log/containers")
_CNI = Path("/var/lib/cni")
# Places that the programs offer no setting for. They are shared with any other Kubernetes on the machine.
FOLDERS = (_LOG_LINKS, _CNI, Path("/run/containerd"), Path("/var/lib/kubelet"))
_RECORD = "machine.json"
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def record_machine(plan: Plan, others: Iterable[Path]) -> None:
    """Remember how the machine was before the first of all running clusters."""
    record = plan.state / _RECORD
    if record.exists():
        return
    inherited = next((file for other in others if (file := other / _RECORD).exists()), None)
    unfinished = record.with_suffix(".new")
    unfinished.write_text(inherited.read_text() if inherited else json.dumps(_machine(), indent=2))
    unfinished.rename(record)


def restore_machine(plan: Plan) -> None:
    """Give the machine its settings back, and take away the folders that it did not have."""
    record = plan.state / _RECORD
    if record.exists():
        before = json.loads(record.read_text())
        for name, value in before["sysctls"].items():
            (Path("/proc/sys") / name).write_text(value)
        for folder in before["absentFolders"]:
            shutil.rmtree(folder, ignore_errors=True)


def forget_last_boot(plan: Plan) -> None:
    """Remove what means nothing any more if the machine was started anew since."""
    marker = plan.run / "boot-id"
    now = _BOOT_ID.read_text()
    if plan.run.exists() and (not marker.exists() or marker.read_text() != now):
        mounts.unmount_below(plan.run)
        shutil.rmtree(plan.run)
    plan.run.mkdir(parents=True, exist_ok=True)
    marker.write_text(now)


def remove_files(plan: Plan) -> None:
    """Remove what the cluster's own pods have in folders that are shared."""
    if _LOG_LINKS.is_dir():
        for link in _LOG_LINKS.iterdir():
            if link.is_symlink() and link.readlink().is_relative_to(plan.state):
                link.unlink()
    for node in plan.nodes:
        for task in _tasks(node):
            address = task / "address"
            if address.exists():
                Path(address.read_text().strip().removeprefix("unix://")).unlink(missing_ok=True)
    # Not by the names of tasks: a pod whose end containerd still saw has none any more.
    for result in (_CNI / "results").glob("*"):
        # Another cluster's may go meanwhile.
        with contextlib.suppress(FileNotFoundError):
            if f"{plan.state}/" in result.read_text():
                result.unlink()


def _tasks(node: Node) -> Iterable[Path]:
    """Return containerd's folder for each container that has not ended in an orderly way."""
    return (node.run / "containerd").glob("io.containerd.runtime.v2.task/*/*")


def _machine() -> dict[str, object]:
    settings = {name: Path("/proc/sys") / name for name in SYSCTLS}
    return {
        "sysctls": {name: file.read_text().strip() for name, file in settings.items() if file.exists()},
        "absentFolders": [str(folder) for folder in FOLDERS if not folder.exists()],
    }
