"""The operator's configuration file: the one model that the chart renders and the operator reads.

Keys are camelCase in the file. Unknown keys are refused, so that a typo in Helm values is an error at
start and not a setting that silently does nothing.
"""

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from fettle_operator.errors import InvalidConfiguration

__all__ = [
    "Backoff",
    "Logging",
    "Profile",
    "ProfileImages",
    "Resources",
    "Settings",
    "Toleration",
    "Verifier",
    "load_settings",
]

_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
_SUBDOMAIN = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_QUANTITY = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"

Label = Annotated[str, StringConstraints(pattern=_LABEL)]
Subdomain = Annotated[str, StringConstraints(pattern=_SUBDOMAIN, max_length=253)]
Quantity = Annotated[str, StringConstraints(pattern=_QUANTITY, max_length=32)]
Image = Annotated[str, StringConstraints(min_length=1, max_length=512, pattern=r"^\S+$")]
ShortText = Annotated[str, StringConstraints(max_length=512)]


class _Section(BaseModel):
    """What every section of the file has in common."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        # `cpu: 2` and `gpusPerProcess` style numbers are natural YAML for quantities.
        coerce_numbers_to_str=True,
    )


class Logging(_Section):
    """How the operator writes its log to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["json", "text"] = "json"


class Backoff(_Section):
    """Pauses between passes that fail; each failure in a row doubles the pause."""

    initial_seconds: float = Field(default=1.0, gt=0, le=60)
    max_seconds: float = Field(default=60.0, gt=0, le=3600)


class Resources(_Section):
    """Requests and limits of a container, as Kubernetes spells them."""

    requests: dict[str, Quantity] = Field(default_factory=dict, max_length=16)
    limits: dict[str, Quantity] = Field(default_factory=dict, max_length=16)


class Toleration(_Section):
    """A taint that the pods may stand; an empty key with `Exists` stands for every taint."""

    key: ShortText = ""
    operator: Literal["Exists", "Equal"] = "Equal"
    value: ShortText = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    toleration_seconds: int | None = Field(default=None, ge=0)

    def manifest(self) -> dict[str, str | int]:
        """Return it as a pod's spec has it."""
        written = self.model_dump(by_alias=True, exclude_none=True)
        return {key: value for key, value in written.items() if value != ""}


def _verifier_resources() -> Resources:
    return Resources(
        requests={"cpu": "100m", "memory": "128Mi", "ephemeral-storage": "64Mi"},
        limits={"cpu": "1", "memory": "512Mi", "ephemeral-storage": "256Mi"},
    )


class Verifier(_Section):
    """The Jobs that read an imported adapter and say whether it is what it claims to be."""

    image: Image
    """The operator's own image: verification needs neither torch nor numpy."""
    resources: Resources = Field(default_factory=_verifier_resources)
    node_selector: dict[str, str] = Field(default_factory=dict, max_length=32)
    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=32)
    attempts: int = Field(default=4, ge=1, le=20)
    """How many Jobs are tried when verification breaks for a reason that is not the adapter's fault."""
    deadline_seconds: int = Field(default=3600, ge=10, le=86400)
    """Time one Job may take, waiting for a node and pulling the image included."""
    ttl_seconds: int = Field(default=3600, ge=0, le=604800)
    """How long a finished Job and its log stay for people to read."""


class ProfileImages(_Section):
    """Images that a profile runs."""

    trainer: Image
    server: Image


class Profile(_Section):
    """An admin-owned set of image, resources and nodes that users pick by name."""

    description: ShortText = ""
    images: ProfileImages
    resources: Resources = Field(default_factory=Resources)
    gpus_per_process: int = Field(default=0, ge=0, le=16)
    gpu_model: ShortText = ""
    """What a GPU of these nodes calls itself, as in `NVIDIA H100 80GB HBM3`; with it a run is estimated before it begins."""
    gpu_memory: Quantity = "80Gi"
    node_selector: dict[str, str] = Field(default_factory=dict, max_length=32)
    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=32)
    runtime_class_name: Annotated[str, StringConstraints(max_length=253)] = ""
    shared_memory: Quantity = "256Mi"
    placement: Literal["any", "spread", "pack"] = "any"
    """How the pods of one training are placed, as far as the nodes allow."""
    env: dict[str, ShortText] = Field(default_factory=dict, max_length=64)
    """Environment of the pods, set by the administrator (mirrors, proxies); users cannot set any."""


class Settings(_Section):
    """The whole file."""

    watch_namespaces: tuple[Label, ...] = Field(default=(), max_length=512)
    """Namespaces to work in; none means the whole cluster."""
    resync_seconds: float = Field(default=300.0, ge=0.2, le=86400)
    """Every object is looked at at least this often, whatever events arrive or get lost."""
    backoff: Backoff = Field(default_factory=Backoff)
    log: Logging = Field(default_factory=Logging)
    image_pull_secrets: tuple[Subdomain, ...] = Field(default=(), max_length=16)
    """Names of pull Secrets that the pods refer to, in the pods' own namespace."""
    verifier: Verifier
    profiles: dict[Label, Profile] = Field(default_factory=dict, max_length=64)


def load_settings(path: Path) -> Settings:
    """Read the configuration file, or say what is wrong with it and where."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidConfiguration(f"{path}: cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidConfiguration(f"{path}: is not valid YAML: {error}") from None
    try:
        return Settings.model_validate(document or {})
    except ValidationError as error:
        raise InvalidConfiguration("\n".join(_sentences(path, error))) from None


def _sentences(path: Path, error: ValidationError) -> list[str]:
    """One line for every wrong field, so that all of them can be corrected at once."""
    return [
        f"{path}: {'.'.join(str(part) for part in problem['loc']) or 'the file'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_context=False)
    ]
