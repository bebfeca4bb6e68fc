"""The pod template of a FineTuneJob's Jobs: the administrator's profile, hardened, with the user's typed wishes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fettle_operator.api.scalars import quantity_value
from fettle_operator.confinement import confined_container, confined_pod
from fettle_operator.finetune.configuration import PROGRESS_PORT
from fettle_operator.finetune.places import Places, Secrets
from fettle_operator.resources import Manifest
from fettle_operator.settings import Profile, Resources, Settings

__all__ = ["CONTAINER", "GPU", "Work", "gpus_of", "pod_spec"]

CONTAINER = "trainer"
FIRST = "fetch"
GPU = "nvidia.com/gpu"
_HOST, _ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
_REPORT = "/dev/termination-log"
_SCRATCH = "/tmp"  # noqa: S108 - a path in the container
_SCRATCH_SIZE = "16Gi"
_CHECK = Resources(
    requests={"cpu": "250m", "memory": "512Mi", "ephemeral-storage": "256Mi"},
    limits={"cpu": "2", "memory": "4Gi", "ephemeral-storage": "20Gi"},
)
"""What reading the data may take, whatever the training takes; never a GPU."""
_ENVIRONMENT = {
    # The root is read-only: everything that libraries write for themselves goes where it may.
    "HOME": _SCRATCH,
    "HF_HOME": f"{_SCRATCH}/huggingface",
    "MPLCONFIGDIR": f"{_SCRATCH}/matplotlib",
    "TORCHINDUCTOR_CACHE_DIR": f"{_SCRATCH}/inductor",
    "TRITON_CACHE_DIR": f"{_SCRATCH}/triton",
    "TORCH_EXTENSIONS_DIR": f"{_SCRATCH}/extensions",
    "PYTHONUNBUFFERED": "1",
}
_ON_GPU = {
    # A rank that lost its peers ends, instead of waiting for them for ever.
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
    "NCCL_DEBUG": "WARN",
    "PYTORCH_ALLOC_CONF": "expandable_segments:True",
}


@dataclass(frozen=True)
class Work:
    """What a pod is there for."""

    arguments: tuple[str, ...]
    places: Places
    run_config: str
    """Name of the ConfigMap with the run configuration."""
    secrets: Secrets
    """Mounted where they are needed: in the step that comes first, if there is one."""
    trains: bool
    first: tuple[str, ...] = ()
    """The arguments of a step that has to be done before; none when there is nothing to do."""
    grace_s: int = 30
    environment: tuple[tuple[str, str], ...] = ()
    subdomain: str | None = None
    """The headless Service that gives the pods names."""
    siblings: tuple[tuple[str, str], ...] = ()
    """Labels of the other pods that it works with; none when it works alone."""


def gpus_of(spec: Manifest, profile: Profile) -> int:
    """Return how many GPUs one pod has."""
    return profile.gpus_per_process * int((spec.get("distributed") or {}).get("processesPerNode", 1))


def pod_spec(spec: Manifest, profile: Profile, settings: Settings, work: Work) -> Manifest:
    """Return the pod's spec; nothing of a user's reaches it but what is typed in the API."""
    scheduling = spec.get("scheduling") or {}
    pod: Manifest = {
        **confined_pod(),
        "terminationGracePeriodSeconds": work.grace_s,
        "initContainers": [_first(profile, work)] if work.first else [],
        "containers": [_container(spec, profile, work)],
        "volumes": [
            *work.places.volumes(work.run_config, work.secrets),
            {"name": "scratch", "emptyDir": {"sizeLimit": _SCRATCH_SIZE}},
            # Processes of one pod exchange tensors through it; a container's own 64 MiB are too few.
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": profile.shared_memory}},
        ],
        "nodeSelector": {**(scheduling.get("nodeSelector") or {}), **profile.node_selector},
        "tolerations": [
            *(toleration.manifest() for toleration in profile.tolerations),
            *(scheduling.get("tolerations") or []),
        ],
        "imagePullSecrets": [{"name": name} for name in settings.image_pull_secrets],
        "runtimeClassName": profile.runtime_class_name,
        "priorityClassName": scheduling.get("priorityClassName", ""),
        "subdomain": work.subdomain or "",
        **_placement(profile, work),
    }
    return {key: value for key, value in pod.items() if value not in ([], {}, "")}


def _placement(profile: Profile, work: Work) -> Manifest:
    """Wish pods together or apart; a wish only, because a training that stands badly still trains."""
    if not work.siblings or profile.placement == "any":
        return {}
    siblings = {"matchLabels": dict(work.siblings)}
    if profile.placement == "spread":
        constraint = {"maxSkew": 1, "topologyKey": _HOST, "whenUnsatisfiable": "ScheduleAnyway"}
        return {"topologySpreadConstraints": [{**constraint, "labelSelector": siblings}]}
    terms = [
        {"weight": weight, "podAffinityTerm": {"topologyKey": key, "labelSelector": siblings}}
        for weight, key in ((100, _ZONE), (50, _HOST))
    ]
    return {"affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}}


def _container(spec: Manifest, profile: Profile, work: Work) -> Manifest:
    gpus = gpus_of(spec, profile) if work.trains else 0
    environment = {**_ENVIRONMENT, **(_ON_GPU if gpus else {}), **profile.env, **dict(work.environment)}
    secrets = () if work.first else work.secrets
    container = _step(profile, CONTAINER, work.arguments, work.places.mounts(secrets), environment)
    if work.trains:
        container["resources"] = _resources(spec, profile, gpus)
        container["ports"] = [{"name": "progress", "containerPort": PROGRESS_PORT}]
    return container


def _first(profile: Profile, work: Work) -> Manifest:
    return _step(
        profile, FIRST, work.first, work.places.mounts(work.secrets), {**_ENVIRONMENT, **profile.env}
    )


def _step(
    profile: Profile,
    name: str,
    arguments: tuple[str, ...],
    mounts: Sequence[Manifest],
    environment: Mapping[str, str],
) -> Manifest:
    """Return a container that does one step of the trainer's, with what reading data may take."""
    return {
        "name": name,
        "image": profile.images.trainer,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "fettle_trainer"],
        "args": [*arguments, "--termination-log", _REPORT],
        "env": [{"name": key, "value": value} for key, value in sorted(environment.items())],
        "terminationMessagePath": _REPORT,
        "terminationMessagePolicy": "File",
        "resources": _CHECK.model_dump(),
        "securityContext": confined_container(),
        "volumeMounts": [
            *mounts,
            {"name": "scratch", "mountPath": _SCRATCH},
            {"name": "shm", "mountPath": "/dev/shm"},  # noqa: S108 - a path in the container
        ],
    }


def _resources(spec: Manifest, profile: Profile, gpus: int) -> Manifest:
    """Lay the user's amounts over the profile's; where one side alone would contradict the other, the user's wins."""
    wished = spec.get("resources") or {}
    asked = {name: str(amount) for name, amount in (wished.get("requests") or {}).items()}
    allowed = {name: str(amount) for name, amount in (wished.get("limits") or {}).items()}
    requests: dict[str, Any] = {**profile.resources.requests, **asked}
    limits: dict[str, Any] = {**profile.resources.limits, **allowed}
    for name in requests.keys() & limits.keys():
        if quantity_value(requests[name]) > quantity_value(limits[name]):
            fitting = limits[name] if name in allowed else requests[name]
            requests[name] = limits[name] = fitting
    if gpus:
        requests[GPU] = limits[GPU] = str(gpus)
    return {"requests": requests, "limits": limits}
