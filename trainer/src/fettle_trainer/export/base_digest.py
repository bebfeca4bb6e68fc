"""The digest of a base model, remembered for as long as the files look the same: making it reads every byte."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from fettle_trainer import strict_json
from fettle_trainer.adapter.model_folder import deciding_files, folder_digest
from fettle_trainer.atomic import write_atomically
from fettle_trainer.errors import WrongInputError
from fettle_trainer.strict_json import StrictJsonError

if TYPE_CHECKING:
    from pathlib import Path

    from fettle_trainer.config.verification import VerifiedAdapter


def model_digest(folder: Path, cache: Path) -> str:
    """Return the digest of a model folder; `cache` is a file that remembers it."""
    appearance = {
        path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in deciding_files(folder)
    }
    key = {"folder": str(folder.resolve()), "files": appearance}
    remembered = _read(cache)
    if remembered.get("key") == key:
        return str(remembered["digest"])
    digest = folder_digest(folder)
    cache.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(cache, json.dumps({"key": key, "digest": digest}).encode())
    return digest


def require_base(expected: str | None, found: str) -> None:
    """Refuse a base model that is not the one that the run's settings name."""
    if expected not in {None, found}:
        raise WrongInputError(
            "ModelMismatch",
            f"The base model's files have the digest {found}, model.digest says {expected}. Use the model that was "
            "meant, or correct the digest.",
            "model.digest",
        )


def require_same_base(earlier: VerifiedAdapter, found: str) -> None:
    """Refuse to continue an adapter on another base than the one it was trained on."""
    if earlier.base_model_digest not in {None, found}:
        raise WrongInputError(
            "ModelMismatch",
            f"The adapter to continue was trained on a base with the digest {earlier.base_model_digest}, this one has "
            f"{found}. On another base its weights mean nothing; name the base {earlier.base_model}.",
            "model.adapter",
        )


def _read(cache: Path) -> dict[str, Any]:
    """Return what is remembered; what cannot be read is made again."""
    with suppress(OSError, StrictJsonError):
        found = strict_json.loads(cache.read_bytes())
        if isinstance(found, dict):
            return found
    return {}
