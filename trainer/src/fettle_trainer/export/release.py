"""From a folder under another name to a release: sealed, flushed to the disk, renamed; or put aside.

Nobody ever sees a half-written artefact under its name, and what missed a gate never gets the name at all.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fettle_trainer.adapter.manifest_file import render_manifest
from fettle_trainer.adapter.verify import verify_adapter
from fettle_trainer.atomic import write_atomically
from fettle_trainer.config.manifest import MANIFEST_NAME
from fettle_trainer.errors import IncompleteError

if TYPE_CHECKING:
    from pathlib import Path

    from fettle_trainer.config.manifest import Manifest

_INCOMING: Final = ".incoming-"
REJECTED: Final = "rejected"


@dataclass(frozen=True)
class Exported:
    """An artefact in its place."""

    digest: str
    folder: Path
    manifest: Manifest


def clear_staging(parent: Path) -> None:
    """Remove what an attempt that failed or was killed has left."""
    for leftover in parent.glob(f"{_INCOMING}*"):
        shutil.rmtree(leftover)


def staging_folder(parent: Path, artefact: str) -> Path:
    """Return an empty folder beside the place to be."""
    folder = parent.resolve() / f"{_INCOMING}{artefact}"
    folder.mkdir(parents=True)
    return folder


def seal(folder: Path, manifest: Manifest) -> None:
    """Write the manifest, flush everything, and verify the folder as every reader will."""
    write_atomically(folder / MANIFEST_NAME, render_manifest(manifest))
    for path in sorted(folder.rglob("*")):
        _flush(path)
    _flush(folder)
    verify_adapter(folder)


def release(folder: Path, manifest: Manifest) -> Exported:
    """Give a sealed folder its name; the same artefact released before stays, and this copy goes."""
    target = folder.parent / folder_name(manifest.digest)
    if target.exists():
        if verify_adapter(target).digest != manifest.digest:
            message = f"{target} is in the way: it is not what its name says. Move it away and run again."
            raise IncompleteError("ReleaseBlocked", message, "output.directory")
        shutil.rmtree(folder)
    else:
        folder.rename(target)
        _flush(folder.parent)
    return Exported(manifest.digest, target, manifest)


def reject(folder: Path, manifest: Manifest, work: Path) -> Exported:
    """Put a sealed folder aside, where people can look at it and no reader of releases does."""
    target = work.resolve() / REJECTED / folder_name(manifest.digest)
    if target.exists():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The work folder may be on another volume.
    shutil.move(folder, target)
    return Exported(manifest.digest, target, manifest)


def folder_name(digest: str) -> str:
    """Return a digest as a file name: the colon would end a path in volume options and search paths."""
    return digest.replace(":", "-")


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
