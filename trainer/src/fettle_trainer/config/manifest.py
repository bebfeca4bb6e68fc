"""The model of `manifest.json`, the file that lies beside the weights of an adapter or a model and says what they are."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fettle_trainer.config.adapter import Alpha, Artefact, FileRecord, Method, MetricName, ModuleName
from fettle_trainer.config.base import ContractModel, Digest

MANIFEST_NAME = "manifest.json"


class BaseModelRecord(ContractModel):
    """The base model that the adapter belongs to."""

    name: Annotated[str, Field(min_length=1, max_length=512)]
    digest: Digest | None = None


class MergeRecord(ContractModel):
    """How an adapter became part of a whole model."""

    adapter: Digest
    """The adapter that was merged, released beside the model."""
    base: Literal["original", "dequantised"]
    """Into which weights: those of the base model's files, or the quantised ones that a QLoRA adapter was trained on."""
    largest_difference: Annotated[float, Field(ge=0)]
    """Between log-probabilities of the adapter and of the merged model, over the held-out prompts of the proof."""


class Manifest(ContractModel):
    """Everything worth knowing about an adapter or a whole model, and the digest of every file it is made of."""

    schema_version: Literal[1] = 1
    digest: Digest
    """Over the lines `<sha256>  <path>` of all files below, sorted by path (see fettle_trainer.digest)."""
    files: Annotated[tuple[FileRecord, ...], Field(min_length=1, max_length=1024)]
    base_model: BaseModelRecord
    artefact: Artefact = "adapter"
    method: Method
    rank: Annotated[int, Field(ge=1)] | None = None
    """Of an adapter, as alpha and the target modules; a whole model has none."""
    alpha: Alpha | None = None
    target_modules: Annotated[tuple[ModuleName, ...], Field(max_length=1024)] = ()
    template_hash: Digest | None = None
    """The digest of the chat template file; serving refuses another template."""
    dataset_digest: Digest | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    """The run's settings with every `auto` resolved; empty for an adapter made elsewhere."""
    metrics: Annotated[dict[MetricName, float], Field(max_length=64)] = Field(default_factory=dict)
    versions: Annotated[dict[str, Annotated[str, Field(max_length=128)]], Field(max_length=64)] = Field(
        default_factory=dict
    )
    """Library name to version, as installed when the adapter was made."""
    parent: Digest | None = None
    """The earlier adapter that training went on from."""
    merge: MergeRecord | None = None

    @model_validator(mode="after")
    def _facts_fit_the_artefact(self) -> Self:
        is_adapter = self.artefact == "adapter"
        if is_adapter != (self.rank is not None) or is_adapter != (self.alpha is not None):
            msg = "an adapter has rank and alpha, a whole model neither"
            raise ValueError(msg)
        if is_adapter and (self.merge is not None or self.method == "full"):
            msg = "only a whole model is merged, or trained with method full"
            raise ValueError(msg)
        if not is_adapter and (self.method == "full") != (self.merge is None):
            msg = "a whole model comes from method full or from a merge"
            raise ValueError(msg)
        return self
