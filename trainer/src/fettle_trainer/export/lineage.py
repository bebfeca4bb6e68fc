"""Where an artefact comes from: everything that its own files cannot say."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, Final

from fettle_trainer.config.manifest import BaseModelRecord, Manifest

if TYPE_CHECKING:
    from fettle_trainer.adapter.inspect import Contents, InspectedAdapter
    from fettle_trainer.config.adapter import Method
    from fettle_trainer.config.evaluation_report import EvaluationReport
    from fettle_trainer.config.manifest import MergeRecord
    from fettle_trainer.config.run import RunConfig

_LIBRARIES: Final = (
    "fettle",
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "deepspeed",
    "bitsandbytes",
    "tokenizers",
    "safetensors",
)


@dataclass(frozen=True)
class Lineage:
    """What a run knows about its result."""

    base_name: str
    base_digest: str
    method: Method
    dataset_digest: str
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)
    """As the user wrote them, and with every `auto` resolved."""
    metrics: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    parent: str | None = None
    """The digest of the adapter that training went on from."""
    base_revision: str | None = None
    """The hub's commit; None for a model that does not come from there."""

    @property
    def base_origin(self) -> str:
        """Return where the base model came from: `repository@commit`, or its name."""
        return self.base_name if self.base_revision is None else f"{self.base_name}@{self.base_revision}"


def base_name(config: RunConfig) -> str:
    """Return how the base model is called: its repository, its name in the settings, or its folder."""
    hub = config.model.hugging_face
    return hub.repo if hub is not None else config.model.name or str(config.model.path)


def asked_settings(config: RunConfig) -> dict[str, Any]:
    """Return the settings that shape the weights, as the user wrote them."""
    return config.model_dump(
        mode="json",
        by_alias=True,
        exclude_none=True,
        include={"method", "lora", "training", "distributed", "evaluation"},
    )


def library_versions() -> dict[str, str]:
    """Return the versions of what made the weights, as far as it is installed."""
    versions: dict[str, str] = {}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # from a source tree, or not part of this installation
    return versions


def reported_metrics(report: EvaluationReport | None) -> dict[str, float]:
    """Return the tuned model's metrics under their names, the base's as base-…."""
    if report is None:
        return {}
    metrics: dict[str, float] = dict(report.tuned.items())
    return metrics | {f"base-{name}": value for name, value in (report.base or {}).items()}


def adapter_manifest(adapter: InspectedAdapter, lineage: Lineage) -> Manifest:
    """Return an adapter's manifest."""
    return Manifest(
        artefact="adapter",
        rank=adapter.weights.layout.rank,
        alpha=adapter.config.lora_alpha,
        target_modules=adapter.weights.layout.target_modules,
        **_common(adapter, lineage),
    )


def model_manifest(contents: Contents, lineage: Lineage, merge: MergeRecord | None) -> Manifest:
    """Return a whole model's manifest."""
    return Manifest(artefact="model", merge=merge, **_common(contents, lineage))


def _common(contents: Contents, lineage: Lineage) -> dict[str, Any]:
    return {
        "digest": contents.digest,
        "files": contents.records,
        "base_model": BaseModelRecord(name=lineage.base_origin, digest=lineage.base_digest),
        "method": lineage.method,
        "template_hash": contents.template_hash,
        "dataset_digest": lineage.dataset_digest,
        "settings": {**lineage.settings, "seed": lineage.seed},
        "metrics": lineage.metrics,
        "versions": lineage.versions,
        "parent": lineage.parent,
    }
