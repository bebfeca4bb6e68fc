"""What a FineTuneJob needs to exist: pure functions of the job, its numbers and the administrator's settings."""

from dataclasses import dataclass

from fettle_operator import labels
from fettle_operator.api.scalars import quantity_value
from fettle_operator.finetune.children import (
    Step,
    adapter_name,
    created_claim,
    job_name,
    rendezvous_name,
    store_claim,
)
from fettle_operator.finetune.configuration import run_config
from fettle_operator.finetune.places import CONFIG_FILE, comes_from_hub, places_of, work_folder
from fettle_operator.finetune.pod import Work, pod_spec
from fettle_operator.finetune.sources import Start
from fettle_operator.names import child_name, digest_of
from fettle_operator.ownership import owner_reference
from fettle_operator.resources import FINETUNEJOBS, Manifest
from fettle_operator.settings import Profile, Settings

__all__ = [
    "Run",
    "adapter",
    "check_job",
    "config_map",
    "forecast_for",
    "is_queued",
    "nodes_of",
    "rendezvous",
    "store",
    "train_job",
]

QUEUE_NAME = "kueue.x-k8s.io/queue-name"
"""Kueue's label: it admits the Job, and nobody else starts it."""
MASTER_ADDRESS = "FETTLE_MASTER_ADDR"
_MASTER_PORT = 29500
_SIZES = {"full": "200Gi"}
_SIZE = "20Gi"
"""Of a claim that is created and given no size: checkpoints of an adapter are small, those of whole models are not."""


@dataclass(frozen=True)
class Run:
    """A job with everything that its pods are made of."""

    live: Manifest
    start: Start
    profile: Profile
    settings: Settings
    micro_batch: int | None = None
    grace_s: int = 60

    @property
    def spec(self) -> Manifest:
        """Return the job's spec."""
        found: Manifest = self.live["spec"]
        return found


def nodes_of(spec: Manifest) -> int:
    """Return how many pods train."""
    return int((spec.get("distributed") or {}).get("nodes", 1))


def config_map(run: Run) -> Manifest:
    """Return the ConfigMap with the run configuration; its name says what is in it, so it never changes."""
    text = run_config(run.live, run.start, run.micro_batch, run.grace_s).model_dump_json(
        by_alias=True, exclude_none=True, indent=1
    )
    name = child_name(run.live["metadata"]["name"], "run", digest_of(text))
    metadata = {**_metadata(run.live, labels.TRAINER, name), "ownerReferences": [_owner(run.live)]}
    return {"metadata": metadata, "immutable": True, "data": {"run.json": text}}


def store(live: Manifest) -> Manifest:
    """Return the claim that is created where the job names none. It stays when the job goes, unless it was asked to go."""
    spec = live["spec"]
    wanted = (spec.get("output") or {}).get("store") or {}
    mode = wanted.get("accessMode") or ("ReadWriteMany" if nodes_of(spec) > 1 else "ReadWriteOnce")
    size = wanted.get("size") or _SIZES.get(spec.get("method", ""), _SIZE)
    metadata = _metadata(live, labels.STORE, created_claim(live))
    if wanted.get("deleteWithJob"):
        metadata["ownerReferences"] = [_owner(live)]
    claim: Manifest = {"accessModes": [mode], "resources": {"requests": {"storage": str(size)}}}
    if wanted.get("storageClassName"):
        claim["storageClassName"] = wanted["storageClassName"]
    return {"metadata": metadata, "spec": claim}


def rendezvous(live: Manifest) -> Manifest:
    """Return the headless Service that gives the pods of an attempt their names, even before they are ready."""
    metadata = {
        **_metadata(live, labels.TRAINER, rendezvous_name(live)),
        "ownerReferences": [_owner(live)],
    }
    selected = {labels.OWNER_UID: live["metadata"]["uid"], labels.COMPONENT: labels.TRAINER}
    return {
        "metadata": metadata,
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": selected,
            "ports": [{"name": "rendezvous", "port": _MASTER_PORT}],
        },
    }


def check_job(run: Run, number: int) -> Manifest:
    """Return the Job that reads the data before anything else is asked for."""
    report = f"{work_folder(run.live)}/check.json"
    arguments = ("check", CONFIG_FILE, "--report", report, *(forecast_for(run.profile) or ()))
    places = places_of(run.live, run.start)
    fetches = comes_from_hub(run.live, run.start)
    work = Work(
        arguments,
        places,
        config_map(run)["metadata"]["name"],
        secrets=places.downloads,
        trains=False,
        # Only this step has the tokens; whatever comes after it finds everything in the store.
        first=("fetch", CONFIG_FILE) if fetches else (),
    )
    return _job(run, "check", number, 1, work)


def forecast_for(profile: Profile) -> tuple[str, ...] | None:
    """Return how the check is told what the run will compute on; None when the administrator has not said it."""
    if not profile.gpus_per_process:
        return ()
    if not profile.gpu_model:
        return None
    memory_gib = float(quantity_value(profile.gpu_memory)) / 2**30
    return ("--gpu", profile.gpu_model, "--gpu-memory", f"{memory_gib:g}")


def train_job(run: Run, number: int) -> Manifest:
    """Return the Job of one attempt: all its pods start together, end together, and none is replaced."""
    nodes = nodes_of(run.spec)
    several = nodes > 1
    first = f"{job_name(run.live, 'train', number)}-0.{rendezvous_name(run.live)}"
    places = places_of(run.live, run.start)
    work = Work(
        ("train", CONFIG_FILE),
        places,
        config_map(run)["metadata"]["name"],
        secrets=places.tracking,
        trains=True,
        grace_s=run.grace_s,
        environment=((MASTER_ADDRESS, first),) if several else (),
        subdomain=rendezvous_name(run.live) if several else None,
        siblings=(
            (labels.OWNER_UID, run.live["metadata"]["uid"]),
            (labels.COMPONENT, labels.TRAINER),
            (labels.ATTEMPT, str(number)),
        )
        if several
        else (),
    )
    return _job(run, "train", number, nodes, work)


def is_queued(spec: Manifest) -> bool:
    """Tell whether Kueue starts the job's Jobs; it changes them too, and must not be corrected."""
    return bool((spec.get("scheduling") or {}).get("queueName"))


def adapter(live: Manifest, base: Manifest, made: Manifest) -> Manifest:
    """Return the Adapter for what the training has left in the store; it is verified there like any other."""
    metadata = {
        **_metadata(live, labels.RESULT, adapter_name(live)),
        "ownerReferences": [_owner(live)],
    }
    spec: Manifest = {
        "source": {"volume": {"claimName": store_claim(live), "path": made["path"]}},
        "baseModel": {key: base[key] for key in ("huggingFace", "volume") if key in base},
        "digest": made["digest"],
    }
    return {"metadata": metadata, "spec": {key: value for key, value in spec.items() if value}}


def _job(run: Run, step: Step, number: int, pods: int, work: Work) -> Manifest:
    component = labels.TRAINER if step == "train" else labels.CHECKER
    metadata = _metadata(run.live, component, job_name(run.live, step, number))
    metadata["labels"][labels.ATTEMPT] = str(number)
    template = {
        "metadata": {"labels": dict(metadata["labels"])},
        "spec": pod_spec(run.spec, run.profile, run.settings, work),
    }
    if is_queued(run.spec):
        metadata["labels"][QUEUE_NAME] = run.spec["scheduling"]["queueName"]
    return {
        "metadata": {
            **metadata,
            "annotations": {labels.TEMPLATE_HASH: digest_of(template)},
            "ownerReferences": [_owner(run.live)],
        },
        "spec": {
            "completionMode": "Indexed",
            "completions": pods,
            "parallelism": pods,
            # Kueue alone lets a queued Job start.
            "suspend": is_queued(run.spec),
            # The operator decides on the next attempt: it knows which failures are worth one.
            "backoffLimit": 0,
            "template": template,
        },
    }


def _metadata(live: Manifest, component: str, name: str) -> Manifest:
    owner = live["metadata"]
    return {
        "namespace": owner["namespace"],
        "name": name,
        "labels": labels.child_labels(component, FINETUNEJOBS.kind, owner["name"], owner["uid"]),
    }


def _owner(live: Manifest) -> Manifest:
    return owner_reference(FINETUNEJOBS, live)
