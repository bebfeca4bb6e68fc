"""The dataset part of a run: where the rows come from and what they look like."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fettle_trainer.config.base import ContractModel, Sha256Hex

RowFormat = Literal["chat", "prompt-completion", "alpaca", "sharegpt", "text", "classification"]
FileKind = Literal["jsonl", "json", "csv", "parquet"]
ColumnName = Annotated[str, Field(min_length=1, max_length=128)]
FilePath = Annotated[str, Field(min_length=1, max_length=1024)]
RepositoryId = Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$", max_length=193)]
Percentage = Annotated[str, Field(pattern=r"^(50|[1-4]?\d(\.\d{1,2})?)%$")]


class HttpFile(ContractModel):
    """One file behind a URL; the digest makes the run reproducible and the answer trustworthy."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s/]+(/\S*)?$", max_length=2048)]
    sha256: Sha256Hex
    max_bytes: Annotated[int, Field(ge=1, le=2**40)] = 2**30


class HubDataset(ContractModel):
    """A dataset on the Hugging Face hub, or on a mirror that speaks its API."""

    repo: RepositoryId
    revision: Annotated[str, Field(min_length=1, max_length=128)] = "main"
    subset: Annotated[str, Field(max_length=128)] | None = None
    split: Annotated[str, Field(max_length=64)] | None = None
    token_file: FilePath | None = None


class DataSource(ContractModel):
    """Exactly one of: local files, a hub dataset, a URL."""

    path: FilePath | None = None
    """A file, a folder, or a glob in which *, ?, [] and ** may stand."""
    root: FilePath | None = None
    """With path: the folder that no file may lie outside of, links resolved. A pod sets it to the mount."""
    hugging_face: HubDataset | None = None
    http: HttpFile | None = None

    @model_validator(mode="after")
    def _exactly_one_source(self) -> Self:
        given = [name for name in ("path", "hugging_face", "http") if getattr(self, name) is not None]
        if len(given) != 1:
            msg = "a source has exactly one of path, huggingFace and http"
            raise ValueError(msg)
        if self.root is not None and self.path is None:
            msg = "root belongs to path"
            raise ValueError(msg)
        return self


class RoleNames(ContractModel):
    """What the speakers of a conversation are called in the files."""

    system: ColumnName | None = None
    user: ColumnName | None = None
    assistant: ColumnName | None = None
    tool: ColumnName | None = None


class Columns(ContractModel):
    """What the fields of the format are called in the files; those left out have their usual names."""

    messages: ColumnName | None = None
    role: ColumnName | None = None
    content: ColumnName | None = None
    roles: RoleNames = RoleNames()
    tools: ColumnName | None = None
    system: ColumnName | None = None
    prompt: ColumnName | None = None
    completion: ColumnName | None = None
    instruction: ColumnName | None = None
    input: ColumnName | None = None
    output: ColumnName | None = None
    text: ColumnName | None = None
    label: ColumnName | None = None


Sources = Annotated[tuple[DataSource, ...], Field(max_length=32)]


class DatasetConfig(ContractModel):
    """What to train and to validate on."""

    train: Annotated[Sources, Field(min_length=1)]
    validation: Sources = ()
    validation_split: Percentage | None = None
    """Share of the training rows held back by row hash. None: 5 %, at most 1,000 rows; nothing with `validation`."""
    format: RowFormat | Literal["auto"] = "auto"
    columns: Columns = Columns()
    template: Annotated[str, Field(min_length=1, max_length=8192)] | None = None
    """Text made of a row's columns, as in `### Q: {prompt}`."""
    max_bad_rows: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.template is not None and self.format in {"chat", "sharegpt"}:
            msg = "template has no meaning with format chat or sharegpt, which use the model's chat template"
            raise ValueError(msg)
        if self.validation and self.validation_split is not None:
            msg = "give either validation or validationSplit"
            raise ValueError(msg)
        return self
