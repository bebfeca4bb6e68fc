"""References to other objects and sources of models. All of them stay in the object's own namespace."""

from pydantic import Field

from fettle_operator.api.base import KubeModel, ResourceName
from fettle_operator.api.markers import exactly_one_of
from fettle_operator.api.scalars import GitRevision, ObjectName, RelativePath, RepositoryId, SecretKey

__all__ = [
    "AdapterRef",
    "BaseModelSource",
    "FineTuneJobRef",
    "HuggingFaceSource",
    "ModelSource",
    "SecretKeyRef",
    "SecretRef",
    "VolumeSource",
]


class SecretRef(KubeModel):
    """A Secret of this namespace."""

    name: ObjectName = Field(description="Name of the Secret.")


class SecretKeyRef(KubeModel):
    """One entry of a Secret of this namespace."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: SecretKey = Field(description="The entry to read.")


class HuggingFaceSource(KubeModel):
    """A repository on the Hugging Face hub, or on the mirror that the profile's administrator has set."""

    repo: RepositoryId = Field(description="Repository, as owner/name.")
    revision: GitRevision | None = Field(
        default=None,
        description="Branch, tag or commit. Left out: the default branch. The commit found is shown in status.",
    )
    token_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Entry of a Secret with the access token of a private or gated repository."
    )


class VolumeSource(KubeModel):
    """A folder or file on a claim of this namespace."""

    claim_name: ObjectName = Field(description="Name of the PersistentVolumeClaim.")
    path: RelativePath = Field(
        description="Path below the claim's root, without '..'; '.' stands for the root itself."
    )


class AdapterRef(KubeModel):
    """An Adapter of this namespace."""

    name: ResourceName = Field(description="Name of the Adapter.")


class FineTuneJobRef(KubeModel):
    """A FineTuneJob of this namespace."""

    name: ResourceName = Field(description="Name of the FineTuneJob.")


class BaseModelSource(KubeModel):
    """Where a base model comes from."""

    rules = (exactly_one_of("huggingFace", "volume"),)

    hugging_face: HuggingFaceSource | None = Field(default=None, description="A repository on the hub.")
    volume: VolumeSource | None = Field(default=None, description="A folder on a claim, in the hub's layout.")


class ModelSource(KubeModel):
    """Where the model to start from comes from."""

    rules = (exactly_one_of("huggingFace", "volume", "adapterRef"),)

    hugging_face: HuggingFaceSource | None = Field(default=None, description="A repository on the hub.")
    volume: VolumeSource | None = Field(default=None, description="A folder on a claim, in the hub's layout.")
    adapter_ref: AdapterRef | None = Field(
        default=None, description="An Adapter made earlier, together with the base model it was made for."
    )
