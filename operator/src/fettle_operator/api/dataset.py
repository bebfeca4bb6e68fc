"""The data of a FineTuneJob: where it lies, what its rows mean, which part is held back."""

from typing import Annotated, Literal

from pydantic import Field

from fettle_operator.api.base import KubeModel
from fettle_operator.api.markers import Rule, Takes, at_most_one_of, exactly_one_of
from fettle_operator.api.references import SecretKeyRef
from fettle_operator.api.scalars import (
    ConfigMapKey,
    GitRevision,
    HttpUrl,
    ObjectName,
    RelativeGlob,
    RepositoryId,
    Sha256,
    SizeQuantity,
)

__all__ = ["Columns", "Dataset", "DatasetFormat", "DatasetSource"]

DatasetFormat = Literal["auto", "chat", "prompt-completion", "alpaca", "sharegpt", "text", "classification"]

ColumnName = Annotated[str, Field(min_length=1, max_length=128)]
HeldBackShare = Annotated[
    str,
    Field(max_length=6, pattern=r"^(0|0\.[0-9]?[1-9]|[1-9](\.[0-9]{1,2})?|[1-4][0-9](\.[0-9]{1,2})?|50)%$"),
    Takes("a share of at most half, such as 5% or 2.5%; zero is spelled 0%"),
]
"""A share of at most half, such as `5%`; zero has one spelling."""
Template = Annotated[
    str,
    Field(max_length=8192, pattern=r"\{[A-Za-z_][A-Za-z0-9_.]*\}"),
    Takes("a text with at least one column name in braces, such as {prompt}"),
]
SubsetName = Annotated[
    str,
    Field(max_length=128, pattern=r"^[A-Za-z0-9._-]+$"),
    Takes("a name of letters, digits, '.', '_' and '-'"),
]
SplitName = Annotated[
    str,
    Field(max_length=64, pattern=r"^[A-Za-z0-9_]+([.][A-Za-z0-9_]+)*$"),
    Takes("a name of letters, digits and '_', with '.' between them"),
]


class VolumeFiles(KubeModel):
    """Files on a claim of this namespace."""

    claim_name: ObjectName = Field(description="Name of the PersistentVolumeClaim.")
    path: RelativeGlob = Field(
        description="File below the claim's root: .jsonl, .json, .csv or .parquet, compressed or not; *, ?, [] and ** may stand in it."
    )


class ConfigMapFiles(KubeModel):
    """Files in a ConfigMap of this namespace, for small data."""

    name: ObjectName = Field(description="Name of the ConfigMap.")
    key: ConfigMapKey | None = Field(
        default=None,
        description="The entry to read. Left out: every entry whose name ends as a data file's does.",
    )


class HubDataset(KubeModel):
    """A dataset on the Hugging Face hub."""

    repo: RepositoryId = Field(description="Repository, as owner/name.")
    revision: GitRevision | None = Field(
        default=None, description="Branch, tag or commit. Left out: the default branch."
    )
    subset: SubsetName | None = Field(
        default=None, description="Name of the subset (configuration), for repositories that have several."
    )
    split: SplitName | None = Field(
        default=None,
        description="Name of the split. Left out: train or validation, by the list it stands in.",
    )
    token_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Entry of a Secret with the access token of a private or gated dataset."
    )


class HttpFile(KubeModel):
    """One file behind an address, fetched once and checked."""

    url: HttpUrl = Field(description="Address of the file, http or https.")
    sha256: Sha256 = Field(description="SHA-256 of the file, in hexadecimal; another content is refused.")
    max_size: SizeQuantity | None = Field(
        default=None, description="Largest size that is fetched. Left out: what the administrator allows."
    )


class DatasetSource(KubeModel):
    """One place that rows come from."""

    rules = (exactly_one_of("volume", "configMap", "huggingFace", "http"),)

    volume: VolumeFiles | None = Field(default=None, description="Files on a claim.")
    config_map: ConfigMapFiles | None = Field(default=None, description="Files in a ConfigMap.")
    hugging_face: HubDataset | None = Field(default=None, description="A dataset on the hub.")
    http: HttpFile | None = Field(default=None, description="One file behind an address.")


class RoleNames(KubeModel):
    """What the data calls the speakers of a conversation."""

    system: ColumnName | None = Field(default=None, description="Name of the system's turns.")
    user: ColumnName | None = Field(default=None, description="Name of the user's turns, such as human.")
    assistant: ColumnName | None = Field(
        default=None, description="Name of the assistant's turns, such as gpt."
    )
    tool: ColumnName | None = Field(default=None, description="Name of the turns with a tool's answer.")


class Columns(KubeModel):
    """Names of columns, or of fields inside a message, where they are not the usual ones."""

    messages: ColumnName | None = Field(default=None, description="The conversation: a list of messages.")
    role: ColumnName | None = Field(default=None, description="Inside a message: who speaks.")
    content: ColumnName | None = Field(default=None, description="Inside a message: what is said.")
    roles: RoleNames | None = Field(default=None, description="The names of the speakers.")
    tools: ColumnName | None = Field(default=None, description="The tools that the assistant may call.")
    system: ColumnName | None = Field(default=None, description="The system prompt of a row.")
    prompt: ColumnName | None = Field(default=None, description="What the model is given.")
    completion: ColumnName | None = Field(default=None, description="What the model should answer.")
    instruction: ColumnName | None = Field(default=None, description="Alpaca: the task.")
    input: ColumnName | None = Field(default=None, description="Alpaca: what the task is about.")
    output: ColumnName | None = Field(default=None, description="Alpaca: the answer.")
    text: ColumnName | None = Field(default=None, description="The text of a row.")
    label: ColumnName | None = Field(
        default=None, description="The class of a row; an automatic split is stratified by it."
    )


DatasetSources = Annotated[list[DatasetSource], Field(min_length=1, max_length=32)]


class Dataset(KubeModel):
    """What to train on and what to hold back."""

    rules = (
        at_most_one_of("validation", "validationSplit"),
        Rule(
            expression="!has(self.template) || !has(self.format) || !(self.format in ['chat', 'sharegpt'])",
            message="template has no meaning with format chat or sharegpt, which use the model's chat template",
            holds=lambda self: self.template is None or self.format not in {"chat", "sharegpt"},
            field="template",
        ),
    )

    train: DatasetSources = Field(description="Where the rows to train on come from; all sources together.")
    validation: DatasetSources | None = Field(
        default=None, description="Where the rows to validate on come from."
    )
    validation_split: HeldBackShare | None = Field(
        default=None,
        description="Share of the training rows to hold back, chosen by row hash so that it stays when data grows; 0% holds nothing back. Left out, without validation: auto.",
    )
    format: DatasetFormat | None = Field(
        default=None, description="What the rows are. Left out or auto: found by looking at them."
    )
    columns: Columns | None = Field(default=None, description="Names of columns that are not the usual ones.")
    template: Template | None = Field(
        default=None,
        description="Text made from each row, with column names in braces, such as '### Q: {prompt}\\n### A: {response}'.",
    )
    max_bad_rows: Annotated[int, Field(ge=0, le=1_000_000_000)] = Field(
        default=0,
        description="How many bad rows are skipped and counted; one more fails the job before it trains.",
    )
