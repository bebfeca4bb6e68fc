"""The report of `python -m fettle_trainer check`: what the data is, and every kind of thing that is wrong with it."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from fettle_trainer.config.base import ContractModel, Digest, SettingValues
from fettle_trainer.config.dataset import RowFormat

MAX_FINDINGS = 50
"""How many findings are listed; the counts are exact however many there are."""

Count = Annotated[int, Field(ge=0)]


class FindingCode(StrEnum):
    """What a finding is about; a closed list, stable names."""

    # about a file
    FILE_MISSING = "FileMissing"
    FILE_UNREADABLE = "FileUnreadable"
    FILE_NOT_REGULAR = "FileNotRegular"
    FILE_OUTSIDE_ROOT = "FileOutsideRoot"
    FILE_EMPTY = "FileEmpty"
    FILE_KIND_UNKNOWN = "FileKindUnknown"
    FILE_KIND_MISMATCH = "FileKindMismatch"
    FILE_CHANGED = "FileChanged"
    FILE_MALFORMED = "FileMalformed"
    NOT_UTF8 = "NotUtf8"
    COMPRESSION_BROKEN = "CompressionBroken"
    COMPRESSION_BOMB = "CompressionBomb"
    SOURCE_UNREACHABLE = "SourceUnreachable"
    SOURCE_FORBIDDEN = "SourceForbidden"
    DIGEST_MISMATCH = "DigestMismatch"
    TOO_LARGE = "TooLarge"
    # about a line
    LINE_TOO_LONG = "LineTooLong"
    INVALID_JSON = "InvalidJson"
    INVALID_CSV = "InvalidCsv"
    NOT_AN_OBJECT = "NotAnObject"
    COLUMN_COUNT = "ColumnCount"
    # about a row
    FORMAT_UNKNOWN = "FormatUnknown"
    MIXED_FORMATS = "MixedFormats"
    FIELD_MISSING = "FieldMissing"
    WRONG_TYPE = "WrongType"
    EMPTY_TEXT = "EmptyText"
    ROLE_UNKNOWN = "RoleUnknown"
    ROLE_ORDER = "RoleOrder"
    WEIGHT_INVALID = "WeightInvalid"
    TOOL_CALL_INVALID = "ToolCallInvalid"
    NOTHING_TO_TRAIN = "NothingToTrain"
    # about a row and the model
    TEMPLATE_REFUSED = "TemplateRefused"
    """The model's chat template cannot write the conversation as it stands."""
    OVERLONG = "Overlong"
    # about the dataset
    NO_ROWS = "NoRows"
    DUPLICATE_ROW = "DuplicateRow"
    LEAKED_ROW = "LeakedRow"


class Finding(ContractModel):
    """One thing that the owner of the data should know."""

    code: FindingCode
    severity: Literal["error", "warning"]
    message: Annotated[str, Field(max_length=512)]
    """What is wrong and what to do."""
    file: Annotated[str, Field(max_length=512)] = ""
    line: Annotated[int, Field(ge=1)] | None = None
    """As an editor counts them; in a Parquet file the number of the row."""
    column: Annotated[int, Field(ge=1)] | None = None
    """Where in the line a parser gave up, in characters; in bytes when they are not UTF-8."""
    field: Annotated[str, Field(max_length=128)] = ""
    """The field of the row, as in `messages[2].role`."""


class DataFileFacts(ContractModel):
    """One file as it was read."""

    path: Annotated[str, Field(max_length=512)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    size_bytes: Count
    rows: Count
    """Usable rows."""
    bad_rows: Count


class LengthBin(ContractModel):
    """How many rows are longer than the bin before and at most this long."""

    up_to: Count
    rows: Count


class TokenFacts(ContractModel):
    """The rows to train on as tokens of one model, after those that are too long were dropped or cut."""

    max_length: Count
    """The longest row that is trained; what `training.maxLength` was resolved to."""
    max_length_reason: str = ""
    rows: Count
    validation_rows: Count
    tokens: Count
    trained_tokens: Count
    trained_token_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    longest: Count
    """Of all rows as they stand in the data, as are the next three."""
    median: Count
    p99: Count
    histogram: tuple[LengthBin, ...] = ()
    overlong: Count
    """Rows longer than maxLength, to train and to validate on; they are dropped or truncated."""
    dropped: Count
    truncated: Count
    untrained: Count
    """Rows left out because nothing of what remains of them is trained."""


class RunForecast(ContractModel):
    """What a run will need, coarsely, on the hardware that it was asked for."""

    device: Annotated[str, Field(max_length=128)]
    """`cpu` is the machine that the check ran on."""
    steps: Count
    batch_size: Count
    micro_batch_size: Count
    gradient_checkpointing: bool
    precision: Literal["fp32", "bf16", "fp16"]
    zero_stage: Literal[0, 1, 2, 3]
    memory_bytes: Count
    """For each process, on the safe side."""
    fits: bool
    """Whether the device has that much."""
    seconds: Count | None = None
    """Of training alone; none where the device's speed is unknown."""
    resolved: SettingValues = Field(default_factory=dict)
    """What would be chosen there for each setting that is left open."""


class DatasetReport(ContractModel):
    """The whole check."""

    passed: bool
    format: RowFormat | None = None
    rows: Count = 0
    """Usable rows to train on, after the split."""
    validation_rows: Count = 0
    bad_rows: Count = 0
    duplicate_rows: Count = 0
    leaked_rows: Count = 0
    """Validation rows that stand in the training rows too."""
    characters: Count = 0
    trained_character_share: Annotated[float, Field(ge=0, le=1)] | None = None
    predicted_steps: Count | None = None
    tokens: TokenFacts | None = None
    """Where the model's tokenizer was at hand."""
    forecast: RunForecast | None = None
    """Where the model's weights were at hand, too."""
    digest: Digest | None = None
    """Over the usable rows in their order: equal data has an equal digest, in whatever files it lies."""
    counts: dict[FindingCode, Count] = Field(default_factory=dict)
    """How often each code was found, all of them."""
    findings: Annotated[tuple[Finding, ...], Field(max_length=MAX_FINDINGS)] = ()
    files: tuple[DataFileFacts, ...] = ()
