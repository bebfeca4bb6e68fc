"""Where the result of a FineTuneJob goes and who is told about the run."""

from typing import Annotated, Literal

from pydantic import Field

from fettle_operator.api.base import KubeModel, ResourceName
from fettle_operator.api.markers import ListSet, Rule, Takes
from fettle_operator.api.references import SecretKeyRef, SecretRef
from fettle_operator.api.scalars import HttpUrl, ObjectName, SizeQuantity

__all__ = ["MlflowTracking", "OciPush", "Output", "Push", "Store", "Tracking"]

_ONLY_NEW = ("size", "storageClassName", "accessMode", "deleteWithJob")
ImageTag = Annotated[
    str,
    Field(max_length=128, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$"),
    Takes("a tag of letters, digits, '_', '.' and '-' that begins with a letter, digit or '_'"),
]
_IMAGE_PART = r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*"


class Store(KubeModel):
    """The claim that keeps checkpoints, reports and the adapter: one that exists, or one that is created."""

    rules = (
        Rule(
            expression="!has(self.claimName) || !("
            + " || ".join(f"has(self.{name})" for name in _ONLY_NEW)
            + ")",
            message=f"set claimName for a claim that exists, or {', '.join(_ONLY_NEW)} for one to create, not both",
            holds=lambda self: (
                self.claim_name is None
                or (self.size, self.storage_class_name, self.access_mode, self.delete_with_job) == (None,) * 4
            ),
            field="claimName",
        ),
    )

    claim_name: ObjectName | None = Field(
        default=None, description="Name of a PersistentVolumeClaim that exists. Several jobs may share one."
    )
    size: SizeQuantity | None = Field(
        default=None, description="Size of the claim to create. Left out: 20Gi, or 200Gi with method full."
    )
    storage_class_name: ObjectName | None = Field(
        default=None, description="Storage class of the claim to create. Left out: the cluster's default."
    )
    access_mode: Literal["ReadWriteOnce", "ReadWriteMany"] | None = Field(
        default=None,
        description="Access mode of the claim to create. Left out: ReadWriteMany when nodes is above 1.",
    )
    delete_with_job: bool | None = Field(
        default=None, description="Delete the created claim, with every result in it, together with the job."
    )


class OciPush(KubeModel):
    """A registry that gets a copy of the verified adapter as an OCI artefact."""

    repository: Annotated[
        str,
        Field(
            max_length=255,
            pattern=rf"^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{{1,5}})?(/{_IMAGE_PART})+$",
        ),
        Takes("a registry and a repository, such as registry.example.com/team/adapter"),
    ] = Field(description="Registry and repository, such as registry.example.com/team/adapter.")
    tag: ImageTag | None = Field(default=None, description="Tag. Left out: the adapter's digest.")
    secret_ref: SecretRef | None = Field(
        default=None, description="Secret of type kubernetes.io/dockerconfigjson with the right to push."
    )


class Push(KubeModel):
    """A second place for the verified adapter, beside the store."""

    oci: OciPush = Field(description="A registry.")


class Output(KubeModel):
    """What remains of the job."""

    store: Store | None = Field(
        default=None, description="The claim for checkpoints and results. Left out: one is created, and kept."
    )
    adapter_name: ResourceName | None = Field(
        default=None, description="Name of the Adapter that is made. Left out: the job's name."
    )
    exports: (
        Annotated[
            list[Literal["adapter", "merged", "onnx", "gguf"]], Field(min_length=1, max_length=4), ListSet()
        ]
        | None
    ) = Field(
        default=None, description="The forms of the result. Left out: adapter, or merged with method full."
    )
    push: Push | None = Field(default=None, description="A second place for the verified adapter.")


class MlflowTracking(KubeModel):
    """An MLflow server that follows the run."""

    tracking_uri: HttpUrl = Field(description="Address of the server, http or https.")
    experiment: Annotated[str, Field(min_length=1, max_length=250)] | None = Field(
        default=None, description="Name of the experiment. Left out: namespace/name of the job."
    )
    token_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Entry of a Secret with the server's bearer token."
    )


class Tracking(KubeModel):
    """Who is told about the run."""

    tensorboard: bool | None = Field(default=None, description="Write TensorBoard files into the store.")
    mlflow: MlflowTracking | None = Field(default=None, description="An MLflow server.")
