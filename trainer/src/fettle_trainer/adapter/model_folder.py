"""The digest of a base model's folder: what an adapter's manifest names, and what training and serving compare.

It is made like an adapter's digest, over the lines that sha256sum prints for the files that decide what the model is.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from fettle_trainer.adapter.digest import adapter_digest
from fettle_trainer.config.adapter import FileRecord
from fettle_trainer.config.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from pathlib import Path

_SUFFIXES: Final = frozenset({".safetensors", ".json", ".jinja", ".model", ".txt"})
"""Weights, configurations, tokenizer and template; a changed README is the same model."""
_PIECE_BYTES: Final = 2**22


def deciding_files(folder: Path) -> list[Path]:
    """Return the files that decide what the model is, sorted."""
    return sorted(path for path in folder.iterdir() if _counts(path))


def folder_digest(folder: Path) -> str:
    """Read all deciding files and return the digest over them."""
    return adapter_digest(
        FileRecord(path=path.name, sha256=_sha256(path), size_bytes=path.stat().st_size)
        for path in deciding_files(folder)
    )


def _counts(path: Path) -> bool:
    return path.suffix in _SUFFIXES and path.name != MANIFEST_NAME and path.is_file()


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
