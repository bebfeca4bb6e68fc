"""The words in which manifests and reports describe an adapter."""

from typing import Annotated, Literal

from pydantic import Field

from fettle_trainer.config.base import ContractModel, RelativePath, Sha256Hex

Method = Literal["lora", "qlora", "dora", "full"]
"""How the weights were trained; the same words as `spec.method` of a FineTuneJob."""

Artefact = Literal["adapter", "model"]
"""Weights that need a base model, or a whole model: merged, or trained with method full."""

Alpha = Annotated[int | float, Field(gt=0)]
"""The LoRA scaling numerator; whole numbers stay whole in JSON."""

ModuleName = Annotated[str, Field(min_length=1, max_length=128)]
MetricName = Annotated[str, Field(min_length=1, max_length=63)]


class FileRecord(ContractModel):
    """One regular file of an adapter directory."""

    path: RelativePath
    sha256: Sha256Hex
    size_bytes: Annotated[int, Field(ge=0)]
