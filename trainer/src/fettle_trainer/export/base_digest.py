"""The digest of a base model: which weights, configuration, tokenizer and template an adapter belongs to."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Final

from fettle_trainer import strict_json
from fettle_trainer.adapter.digest import adapter_digest
from fettle_trainer.atomic import write_atomically
from fettle_trainer.config.adapter import FileRecord
from fettle_trainer.strict_json import StrictJsonError

_SUFFIXES: Final = frozenset({".safetensors", ".json", ".jinja", ".model", ".txt"})
_BESIDE: Final = frozenset({"manifest.json", "compatibility.json"})
"""What a release records about a model is not the model."""


def base_digest(folder: Path, memory: Path | None = None) -> str:
    """Return the digest over the model's files, made like an adapter's.

    Reading tens of gigabytes takes its time: `memory` is a file that keeps the answer while the files look the same.
    """
    files = sorted(path for path in folder.iterdir() if path.suffix in _SUFFIXES and path.name not in _BESIDE)
    seen = [[path.name, status.st_size, status.st_mtime_ns] for path in files for status in (path.stat(),)]
    look = {"folder": str(folder.resolve()), "files": seen}
    if memory is not None and (known := _remembered(memory, look)):
        return known
    digest = adapter_digest(
        FileRecord(path=path.name, sha256=_sha256(path), size_bytes=path.stat().st_size) for path in files
    )
    if memory is not None:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(memory, json.dumps({"look": look, "digest": digest}).encode())
    return digest


def _remembered(memory: Path, look: dict[str, object]) -> str | None:
    try:
        document = strict_json.loads(memory.read_bytes())
    except (OSError, StrictJsonError):
        return None
    if not isinstance(document, dict) or document.get("look") != look:
        return None
    return str(document["digest"])


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
