"""How many processors this process may use, which in a container is rarely how many the machine has."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

_CGROUP: Final = Path("/sys/fs/cgroup")


def available(cgroup: Path = _CGROUP) -> int:
    """Return the processors this process may run on, within the time that its container may take from them."""
    allowed = len(os.sched_getaffinity(0))
    share = _share(cgroup)
    return allowed if share is None else max(1, min(allowed, math.ceil(share)))


def threads_are_given() -> bool:
    """Say whether the user has said how many threads there are to be."""
    return "OMP_NUM_THREADS" in os.environ


def settle_threads() -> None:
    """Give torch so many threads, unless the user has said how many.

    Left alone it starts one for each processor of the machine, and a container with four of ninety-six spends its
    time on letting them wait for each other.
    """
    import torch  # noqa: PLC0415 - `available` is asked where torch is kept out, too

    if not threads_are_given():
        torch.set_num_threads(min(torch.get_num_threads(), available()))


def _share(cgroup: Path) -> float | None:
    """Return the limit of the container in processors; None where there is none."""
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        quota, period = _first_version(cgroup)
    if not quota.isdecimal() or not period.isdecimal() or int(period) == 0:
        return None
    return int(quota) / int(period)


def _first_version(cgroup: Path) -> tuple[str, str]:
    try:
        return (
            (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip(),
            (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip(),
        )
    except OSError:
        return "max", ""
