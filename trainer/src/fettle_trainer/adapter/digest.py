"""The digest that names an adapter: one value over all its files."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from fettle_trainer.config.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fettle_trainer.config.adapter import FileRecord


def adapter_digest(files: Iterable[FileRecord]) -> str:
    """SHA-256 over the lines `<sha256>  <path>` of all files but the manifest, sorted by path.

    The same lines as sha256sum prints, so that `sha256sum -c` can check a directory without Fettle.
    """
    lines = (
        f"{record.sha256}  {record.path}\n"
        for record in sorted(files, key=lambda record: record.path)
        if record.path != MANIFEST_NAME
    )
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()
