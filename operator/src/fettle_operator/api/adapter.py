"""Adapter: the record of one trained or imported adapter, and whether it may be served."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from fettle_operator.api.base import KubeModel, Resource, ResourceName, StatusModel, same
from fettle_operator.api.markers import Column, ListMap, ResourceInfo, TransitionRule, exactly_one_of
from fettle_operator.api.references import BaseModelSource, FineTuneJobRef, HuggingFaceSource, VolumeSource
from fettle_operator.api.scalars import Digest, RelativePath, Sha256

__all__ = [
    "GROUP",
    "KIND",
    "PLURAL",
    "VERSION",
    "Adapter",
    "AdapterFile",
    "AdapterPhase",
    "AdapterSource",
    "AdapterSpec",
    "AdapterStatus",
    "AdapterUser",
    "BaseModelFacts",
    "ProducedBy",
    "StoreLocation",
]

INFO = ResourceInfo(
    kind="Adapter",
    plural="adapters",
    singular="adapter",
    short_names=("adp",),
    columns=(
        Column("Phase", ".status.phase"),
        Column("Method", ".status.method"),
        Column("Rank", ".status.rank", type="integer"),
        Column("Base", ".status.baseModel.name"),
        Column("Age", ".metadata.creationTimestamp", type="date"),
        Column("Digest", ".status.digest", wide=True),
        Column("Bytes", ".status.sizeBytes", type="integer", wide=True),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', wide=True),
    ),
)
GROUP, VERSION, PLURAL, KIND = INFO.group, INFO.version, INFO.plural, INFO.kind

AdapterPhase = Literal["Pending", "Verifying", "Ready", "Failed", "Deleting"]


class AdapterSource(KubeModel):
    """Where the adapter's files are."""

    rules = (exactly_one_of("volume", "huggingFace", "fineTuneJob"),)

    volume: VolumeSource | None = Field(
        default=None,
        description="A folder on a claim with the adapter's safetensors and adapter_config.json.",
    )
    hugging_face: HuggingFaceSource | None = Field(
        default=None, description="A repository on the hub with the adapter's files."
    )
    fine_tune_job: FineTuneJobRef | None = Field(
        default=None, description="The FineTuneJob that makes it. Written by the operator, not by people."
    )


class AdapterSpec(KubeModel):
    """What is wanted: one adapter, verified."""

    source: AdapterSource = Field(description="Where the adapter's files are; exactly one kind of source.")
    base_model: BaseModelSource | None = Field(
        default=None, description="The base model that the adapter is expected to be for."
    )
    digest: Digest | None = Field(
        default=None, description="The digest that the adapter is expected to have; another one is refused."
    )


class BaseModelFacts(KubeModel):
    """The base model that an adapter was made for."""

    name: Annotated[str, Field(max_length=512)] = Field(
        description="Its name, as the adapter's files give it."
    )
    digest: Digest | None = Field(default=None, description="Its digest, when the adapter's manifest has it.")


class AdapterFile(KubeModel):
    """One file of the adapter."""

    path: Annotated[str, Field(max_length=512)] = Field(description="Path below the adapter's folder.")
    sha256: Sha256 = Field(description="The file's SHA-256, in hexadecimal.")
    size_bytes: Annotated[int, Field(ge=0, le=2**53)] = Field(description="The file's size.")


class StoreLocation(KubeModel):
    """Where the verified files lie."""

    claim_name: Annotated[str, Field(max_length=253)] = Field(
        description="Name of the PersistentVolumeClaim."
    )
    path: RelativePath = Field(description="Path of the adapter's folder below the claim's root.")


class ProducedBy(KubeModel):
    """The FineTuneJob that made the adapter."""

    name: ResourceName = Field(description="Name of the FineTuneJob.")
    uid: Annotated[str, Field(max_length=64)] = Field(description="UID of the FineTuneJob.")


class AdapterUser(KubeModel):
    """An object that uses the adapter now, so that its deletion waits."""

    kind: Literal["InferenceDeployment", "FineTuneJob"] = Field(description="Kind of the user.")
    name: ResourceName = Field(description="Name of the user.")


class AdapterStatus(StatusModel):
    """What is known about the adapter."""

    phase: AdapterPhase | None = Field(
        default=None, description="The state in a word, derived from conditions."
    )
    digest: Digest | None = Field(default=None, description="Digest over all files of the adapter.")
    size_bytes: Annotated[int, Field(ge=0, le=2**53)] | None = Field(
        default=None, description="Size of all files together."
    )
    method: Literal["lora", "qlora", "dora", "full"] | None = Field(
        default=None, description="How the adapter was trained."
    )
    rank: Annotated[int, Field(ge=1, le=65536)] | None = Field(
        default=None, description="The largest rank of any module."
    )
    alpha: Annotated[float, Field(ge=0, le=1_000_000)] | None = Field(
        default=None, description="The scale of the adapter's update."
    )
    target_modules: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=64)] = Field(
        default_factory=list, description="The modules that the weights adapt."
    )
    base_model: BaseModelFacts | None = Field(
        default=None, description="The base model that it was made for."
    )
    template_hash: Digest | None = Field(
        default=None, description="Digest of the chat template it was trained with."
    )
    dataset_digest: Digest | None = Field(default=None, description="Digest of the data it was trained on.")
    metrics: Annotated[dict[str, Annotated[str, Field(max_length=64)]], Field(max_length=64)] = Field(
        default_factory=dict, description="What its evaluation measured, name to value."
    )
    files: Annotated[list[AdapterFile], Field(max_length=64), ListMap("path")] = Field(
        default_factory=list, description="Its files; empty when there are too many to list."
    )
    location: StoreLocation | None = Field(default=None, description="Where the verified files lie.")
    produced_by: ProducedBy | None = Field(default=None, description="The FineTuneJob that made it.")
    used_by: Annotated[list[AdapterUser], Field(max_length=64)] = Field(
        default_factory=list, description="Who uses it now. Deletion waits until this is empty."
    )


class Adapter(Resource):
    """One trained or imported adapter: what it is, where it lies, who made it and who uses it."""

    info: ClassVar[ResourceInfo] = INFO
    transition_rules: ClassVar[tuple[TransitionRule, ...]] = (
        TransitionRule(
            expression="self.spec == oldSelf.spec",
            message="spec is immutable; create another Adapter",
            holds=lambda old, new: same(old.spec, new.spec),
            field="spec",
        ),
    )

    kind: Literal["Adapter"] = "Adapter"
    spec: AdapterSpec = Field(description="What is wanted. It cannot be changed.")
    status: AdapterStatus = Field(
        default_factory=AdapterStatus, description="What is known. Written by the operator."
    )
