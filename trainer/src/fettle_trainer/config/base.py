"""The common shape of every contract model: camelCase in JSON, frozen, unknown fields refused."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class ContractModel(BaseModel):
    """A JSON object that two parts exchange; Python speaks snake_case, JSON camelCase."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
    )


Sha256Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""The SHA-256 of one file, as sha256sum prints it."""

SettingValues = Annotated[
    dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=256)]], Field(max_length=64)
]
"""Values of settings by their path in the API, as in `training.batchSize`, written as people read them."""

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
"""A digest that names its algorithm, as container registries write it."""

RelativePath = Annotated[str, Field(min_length=1, max_length=512)]
"""A path below the adapter's directory, with forward slashes."""
