"""The model of `manifest.json`, the file that lies beside an adapter's weights and says what they are."""

from typing import Annotated, Any, Literal

from pydantic import Field

from fettle_trainer.config.adapter import Alpha, FileRecord, Method, MetricName, ModuleName
from fettle_trainer.config.base import ContractModel, Digest

MANIFEST_NAME = "manifest.json"


class BaseModelRecord(ContractModel):
    """The base model that the adapter belongs to."""

    name: Annotated[str, Field(min_length=1, max_length=512)]
    digest: Digest | None = None


class Manifest(ContractModel):
    """Everything worth knowing about an adapter, and the digest of every file it is made of."""

    schema_version: Literal[1] = 1
    digest: Digest
    """Over the lines `<sha256>  <path>` of all files below, sorted by path (see fettle_trainer.digest)."""
    files: Annotated[tuple[FileRecord, ...], Field(min_length=1, max_length=1024)]
    base_model: BaseModelRecord
    method: Method
    rank: Annotated[int, Field(ge=1)]
    alpha: Alpha
    target_modules: Annotated[tuple[ModuleName, ...], Field(max_length=1024)]
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
