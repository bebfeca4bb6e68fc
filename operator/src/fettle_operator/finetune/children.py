"""The children of a FineTuneJob: what they are called. Pure.

Names follow from the job and a number or a digest alone, so that no child can come into being twice.
"""

from typing import Literal

from fettle_operator.names import child_name
from fettle_operator.resources import Manifest

__all__ = ["Step", "adapter_name", "created_claim", "job_name", "rendezvous_name", "step_of", "store_claim"]

Step = Literal["check", "train"]


def job_name(live: Manifest, step: Step, number: int) -> str:
    """Return the name of the Job of an attempt at a step."""
    return child_name(live["metadata"]["name"], step, str(number))


def step_of(live: Manifest, job: Manifest) -> Step | None:
    """Return which step a Job belongs to, by its name: unlike its labels, nobody can change that."""
    name = job["metadata"]["name"]
    number = name.rpartition("-")[2]
    if number.isdigit():
        for step in ("check", "train"):
            if name == job_name(live, step, int(number)):
                return step
    return None


def rendezvous_name(live: Manifest) -> str:
    """Return the name of the headless Service through which the pods of an attempt find each other."""
    return child_name(live["metadata"]["name"], "ranks")


def adapter_name(live: Manifest) -> str:
    """Return the name of the Adapter that the job makes."""
    name: str = (live["spec"].get("output") or {}).get("adapterName") or live["metadata"]["name"]
    return name


def store_claim(live: Manifest) -> str:
    """Return the name of the claim that keeps checkpoints, reports and results."""
    store = (live["spec"].get("output") or {}).get("store") or {}
    name: str = store.get("claimName") or created_claim(live)
    return name


def created_claim(live: Manifest) -> str:
    """Return the name of the claim that is created where none is named.

    It outlives the job, so a later job of the same name must not meet it: the UID is part of the name.
    """
    metadata = live["metadata"]
    return child_name(metadata["name"], "store", metadata["uid"][:8])
