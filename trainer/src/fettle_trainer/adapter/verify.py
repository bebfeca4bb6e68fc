"""The verification of an adapter's or a whole model's directory: sound in itself, and what its manifest says it is.

A whole model is one only by its manifest; what comes without is held to what an adapter must be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle_trainer.adapter.directory import open_adapter_directory
from fettle_trainer.adapter.errors import AdapterRefusedError
from fettle_trainer.adapter.inspect import Contents, InspectedAdapter, inspect_adapter
from fettle_trainer.adapter.inspect_model import InspectedModel, inspect_model
from fettle_trainer.adapter.manifest_check import check_content, check_facts, check_listing
from fettle_trainer.adapter.manifest_file import MAX_MANIFEST_BYTES, parse_manifest
from fettle_trainer.adapter.peft_config import CONFIG_NAME
from fettle_trainer.config.manifest import MANIFEST_NAME, Manifest
from fettle_trainer.config.verification import RefusalCode, VerifiedAdapter

if TYPE_CHECKING:
    from pathlib import Path

    from fettle_trainer.adapter.directory import AdapterDirectory


def verify_adapter(path: Path) -> VerifiedAdapter:
    """Read the whole directory and describe the adapter, or raise AdapterRefusedError or FileChangedError."""
    with open_adapter_directory(path) as directory:
        manifest = _manifest(directory)
        if manifest is not None and manifest.artefact == "model":
            return _model_facts(inspect_model(directory), manifest)
        adapter = inspect_adapter(directory)
    return _plain_facts(adapter) if manifest is None else _recorded_facts(adapter, manifest)


def _manifest(directory: AdapterDirectory) -> Manifest | None:
    if MANIFEST_NAME not in directory:
        return None
    manifest = parse_manifest(directory.read(MANIFEST_NAME, MAX_MANIFEST_BYTES))
    check_listing(manifest, {path: entry.size for path, entry in directory.entries.items()})
    return manifest


def _plain_facts(adapter: InspectedAdapter) -> VerifiedAdapter:
    base_model = adapter.config.base_model_name_or_path
    if not base_model:
        raise AdapterRefusedError(
            RefusalCode.CONFIG_INVALID,
            f"{CONFIG_NAME} has no base_model_name_or_path and there is no {MANIFEST_NAME}, so nothing says which model "
            "the adapter is for. Name it with `python -m fettle_trainer seal --base-model NAME`.",
            CONFIG_NAME,
        )
    return VerifiedAdapter(
        digest=adapter.digest,
        size_bytes=adapter.size_bytes,
        method=adapter.config.method,
        rank=adapter.weights.layout.rank,
        alpha=adapter.config.lora_alpha,
        target_modules=adapter.weights.layout.target_modules,
        base_model=base_model,
        template_hash=adapter.template_hash,
        file_count=len(adapter.records),
        tensor_count=adapter.weights.tensor_count,
        has_manifest=False,
        untrained=adapter.weights.untrained,
        files=adapter.records,
    )


def _recorded_facts(adapter: InspectedAdapter, manifest: Manifest) -> VerifiedAdapter:
    check_content(manifest, adapter)
    check_facts(manifest, adapter)
    return _said(manifest, adapter, adapter.weights.tensor_count).model_copy(
        update={
            "rank": manifest.rank,
            "alpha": manifest.alpha,
            "target_modules": adapter.weights.layout.target_modules,
            "untrained": adapter.weights.untrained,
        }
    )


def _model_facts(model: InspectedModel, manifest: Manifest) -> VerifiedAdapter:
    check_content(manifest, model)
    return _said(manifest, model, model.tensor_count)


def _said(manifest: Manifest, contents: Contents, tensor_count: int) -> VerifiedAdapter:
    return VerifiedAdapter(
        artefact=manifest.artefact,
        digest=contents.digest,
        size_bytes=contents.size_bytes,
        method=manifest.method,
        base_model=manifest.base_model.name,
        base_model_digest=manifest.base_model.digest,
        template_hash=contents.template_hash,
        dataset_digest=manifest.dataset_digest,
        metrics={name: f"{value:.6g}" for name, value in manifest.metrics.items()},
        file_count=len(contents.records),
        tensor_count=tensor_count,
        has_manifest=True,
        files=contents.records,
    )
