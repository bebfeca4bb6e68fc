"""The report of `python -m fettle_trainer verify`: what the trainer tells the operator about an adapter.

Exit codes go with the outcomes: 0 verified, 2 refused (the adapter is wrong, a retry changes nothing),
1 failed (the check could not be completed, a retry may help).
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fettle_trainer.config.adapter import Alpha, Artefact, FileRecord, Method, MetricName, ModuleName
from fettle_trainer.config.base import ContractModel, Digest

MAX_REPORT_BYTES = 4096
"""What Kubernetes keeps of a termination message."""


class RefusalCode(StrEnum):
    """Why an adapter was refused; a closed list, stable names."""

    DIRECTORY_MISSING = "DirectoryMissing"
    UNSAFE_FILE = "UnsafeFile"
    """A symlink, FIFO, socket or device, or a name that could leave the directory."""
    CODE_FILE = "CodeFile"
    """A pickle or Python file: loading it would run what the uploader wrote."""
    TOO_LARGE = "TooLarge"
    CONFIG_MISSING = "ConfigMissing"
    CONFIG_INVALID = "ConfigInvalid"
    METHOD_UNSUPPORTED = "MethodUnsupported"
    WEIGHTS_MISSING = "WeightsMissing"
    WEIGHTS_MALFORMED = "WeightsMalformed"
    WEIGHTS_EMPTY = "WeightsEmpty"
    WEIGHTS_NOT_FINITE = "WeightsNotFinite"
    WEIGHTS_MISMATCH = "WeightsMismatch"
    """Tensor names or shapes disagree with adapter_config.json."""
    MANIFEST_INVALID = "ManifestInvalid"
    MANIFEST_MISMATCH = "ManifestMismatch"
    """The manifest says something about the adapter that its files do not."""
    FILE_MISSING = "FileMissing"
    FILE_UNEXPECTED = "FileUnexpected"
    DIGEST_MISMATCH = "DigestMismatch"
    TEMPLATE_MISMATCH = "TemplateMismatch"


class VerifiedAdapter(ContractModel):
    """The facts of an adapter, or a whole model, whose files were all read and found sound."""

    digest: Digest
    size_bytes: Annotated[int, Field(ge=1)]
    artefact: Artefact = "adapter"
    method: Method
    rank: Annotated[int, Field(ge=1)] | None = None
    """The largest rank of any module; a whole model has none, and no alpha."""
    alpha: Alpha | None = None
    target_modules: tuple[ModuleName, ...] = ()
    """Distinct last name parts of the modules that the weights really adapt, sorted."""
    base_model: Annotated[str, Field(max_length=512)]
    base_model_digest: Digest | None = None
    template_hash: Digest | None = None
    dataset_digest: Digest | None = None
    metrics: dict[MetricName, str] = Field(default_factory=dict)
    file_count: Annotated[int, Field(ge=1)]
    tensor_count: Annotated[int, Field(ge=1)]
    has_manifest: bool
    untrained: bool = False
    """Every lora_B tensor is zero: legal, but the adapter changes nothing."""
    files: tuple[FileRecord, ...] = ()
    """Left empty when the report would grow beyond MAX_REPORT_BYTES; fileCount stays."""


class VerificationError(ContractModel):
    """Why there is no verified adapter, for the user."""

    code: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z]*$", max_length=64)]
    """A RefusalCode when refused; `CheckFailed` or `FileChanged` when the check could not be completed."""
    message: str
    file: str = ""
    """The file concerned, relative to the adapter's directory; empty when none is."""


class VerificationReport(ContractModel):
    """What the verification Job leaves as its termination message."""

    outcome: Literal["verified", "refused", "failed"]
    adapter: VerifiedAdapter | None = None
    error: VerificationError | None = None

    @model_validator(mode="after")
    def _outcome_and_content_agree(self) -> Self:
        verified = self.outcome == "verified"
        if verified != (self.adapter is not None) or verified != (self.error is None):
            msg = "a verified report carries an adapter and no error, any other an error and no adapter"
            raise ValueError(msg)
        return self
