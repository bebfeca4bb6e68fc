"""What is mounted below a folder."""

from __future__ import annotations

import re
from pathlib import Path

from devcluster.shell import run

_MOUNTS = Path("/proc/self/mountinfo")


def below(folder: Path) -> list[Path]:
    """Return the mount points at and below a folder, in the order in which they were mounted."""
    return [point for point in points(_MOUNTS.read_text()) if point.is_relative_to(folder)]


def unmount_below(folder: Path) -> None:
    """Unmount everything at and below a folder, the newest first."""
    for point in reversed(below(folder)):
        run(["umount", "--lazy", point])


def points(mountinfo: str) -> list[Path]:
    """Return all mount points, from the text of /proc/self/mountinfo."""
    return [Path(_unescaped(line.split()[4])) for line in mountinfo.splitlines()]


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
