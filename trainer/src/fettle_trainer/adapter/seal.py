"""Writing the manifest of an adapter that was made elsewhere, so that it can be imported whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fettle_trainer.adapter.directory import open_adapter_directory
from fettle_trainer.adapter.errors import AdapterRefusedError
from fettle_trainer.adapter.inspect import inspect_adapter
from fettle_trainer.adapter.manifest_file import render_manifest
from fettle_trainer.adapter.peft_config import CONFIG_NAME
from fettle_trainer.atomic import remove_leftover, write_atomically
from fettle_trainer.config.manifest import MANIFEST_NAME, BaseModelRecord, Manifest
from fettle_trainer.config.verification import RefusalCode

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Provenance:
    """What the files themselves cannot say."""

    base_model: str | None = None
    base_model_digest: str | None = None
    dataset_digest: str | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def seal_adapter(path: Path, provenance: Provenance, *, replace: bool = False) -> Manifest:
    """Check the adapter as `verify` does, then write its manifest.json atomically."""
    target = path / MANIFEST_NAME
    remove_leftover(target)
    with open_adapter_directory(path) as directory:
        if MANIFEST_NAME in directory and not replace:
            raise AdapterRefusedError(
                RefusalCode.MANIFEST_INVALID,
                f"{MANIFEST_NAME} is there already; --replace writes a new one.",
                MANIFEST_NAME,
            )
        adapter = inspect_adapter(directory)
    base_model = provenance.base_model or adapter.config.base_model_name_or_path
    if not base_model:
        raise AdapterRefusedError(
            RefusalCode.CONFIG_INVALID,
            f"{CONFIG_NAME} has no base_model_name_or_path; name the model with --base-model.",
            CONFIG_NAME,
        )
    manifest = Manifest(
        digest=adapter.digest,
        files=adapter.records,
        base_model=BaseModelRecord(name=base_model, digest=provenance.base_model_digest),
        method=adapter.config.method,
        rank=adapter.weights.layout.rank,
        alpha=adapter.config.lora_alpha,
        target_modules=adapter.weights.layout.target_modules,
        template_hash=adapter.template_hash,
        dataset_digest=provenance.dataset_digest,
        metrics=provenance.metrics,
        versions=provenance.versions,
    )
    write_atomically(target, render_manifest(manifest))
    return manifest
