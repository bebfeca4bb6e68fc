"""A new node begins with the images of another one, as far as the file system can share them.

Gigabytes of unpacked model libraries would otherwise lie once on every node. Files of a layer never change, so the
nodes share them by hard links; only containerd's own books are copied. What the new node does not know it pulls.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Final

from devcluster.errors import DevclusterError
from devcluster.shell import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LAYERS: Final = (
    "io.containerd.content.v1.content/blobs",
    "io.containerd.snapshotter.v1.overlayfs/snapshots",
)
# In this order: a layer that the second book knows and the first does not is only forgotten.
_BOOKS: Final = (
    "io.containerd.metadata.v1.bolt/meta.db",
    "io.containerd.snapshotter.v1.overlayfs/metadata.db",
)
_META_PAGES: Final = 2 * 4096
_ATTEMPTS: Final = 50
_PATIENCE_S: Final = 300


def seed(images: Path, donor: Path) -> None:
    """Give a node that has no images yet those of another, whose containerd may be running."""
    if images.exists() or images == donor or not all((donor / book).exists() for book in _BOOKS):
        return
    half_made = images.with_name(images.name + ".seeding")
    shutil.rmtree(half_made, ignore_errors=True)
    for book in _BOOKS:
        (half_made / book).parent.mkdir(parents=True)
        copy_at_rest(donor / book, half_made / book)
    for layers in _LAYERS:
        (half_made / layers).parent.mkdir(parents=True, exist_ok=True)
        _link(donor / layers, half_made / layers)
    half_made.rename(images)


def copy_at_rest(book: Path, copy: Path, duplicate: Callable[[Path, Path], object] = shutil.copyfile) -> None:
    """Copy a bbolt database as it was between two transactions, though its owner may write.

    A transaction writes pages that nothing refers to, and last of all one of the two pages at the beginning. So a
    copy is whole if these two are the same before and after.
    """
    for _ in range(_ATTEMPTS):
        before = _beginning(book)
        duplicate(book, copy)
        if _beginning(book) == before == _beginning(copy):
            return
    message = f"{book} is being written to all the time; try again"
    raise DevclusterError(message)


def _link(layers: Path, copy: Path) -> None:
    command = ["cp", "--archive", "--link", str(layers), str(copy)]
    done = run(command, check=False, timeout_s=_PATIENCE_S)
    # A container of the donor may end meanwhile, and its own layer goes with it; those of images stay.
    real = [line for line in done.stderr.splitlines() if not line.endswith(": No such file or directory")]
    if done.returncode != 0 and (real or not copy.exists()):
        message = f"`{' '.join(command)}` failed: {done.stderr.strip()[-500:]}"
        raise DevclusterError(message)


def _beginning(book: Path) -> bytes:
    with book.open("rb") as file:
        return file.read(_META_PAGES)
