"""FineTuneJobs on a stage: what the stub plays for them, and what is compared of two lives."""

import json
from collections.abc import Callable
from typing import Any

from faults.nodes import Ends, Play, Runs, Waits
from faults.stage import Stage, eventually, verified
from fettle_operator.resources import CLAIMS, FINETUNEJOBS, JOBS
from finetune_objects import checked, failed, outcome, succeeded

__all__ = ["await_phase", "end_state", "job", "lives", "phase_of", "playing", "prepare", "told", "wake_nodes"]

_VOLATILE = frozenset(
    {"lastTransitionTime", "startTime", "completionTime", "seconds", "lostSeconds", "activeSeconds", "nodes"}
)
DISRUPTED = {
    "type": "DisruptionTarget",
    "status": "True",
    "reason": "PreemptionByScheduler",
    "message": "preempted",
    "lastTransitionTime": "2026-01-01T00:00:00Z",
}


def job(name: str = "tone", **spec: Any) -> dict[str, Any]:
    """Return a FineTuneJob with a model and data on claims and its results on another."""
    return {
        "apiVersion": "fettle.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"volume": {"claimName": "models", "path": "tiny"}},
            "dataset": {"train": [{"configMap": {"name": "rows", "key": "train.jsonl"}}]},
            "output": {"store": {"claimName": "store"}},
            **spec,
        },
    }


def prepare(stage: Stage) -> None:
    """Create the claims that jobs speak of."""
    stage.claim("models")
    stage.claim("store")


def playing(train: Callable[[str, int], Ends | Runs | Waits | None]) -> Play:
    """Return a play in which data is good and adapters are sound, and `train` says how each attempt goes."""

    def play(manifest: dict[str, Any]) -> Ends | Runs | Waits | None:
        name, step, number = manifest["metadata"]["name"].rsplit("-", 2)
        match step:
            case "check":
                return Ends(0, checked())
            case "train":
                return train(name, int(number))
            case _:
                return verified(manifest)

    return play


def told(name: str) -> Ends:
    """Let an attempt come to a good end."""
    return Ends(0, succeeded(name))


def lives(kind: str) -> Play:
    """Return one of the three lives that the sweeps compare."""

    def train(name: str, attempt: int) -> Ends:
        if kind == "failed":
            return Ends(1, failed(message="the disk is full", checkpointStep=5))
        if kind == "preempted" and attempt == 1:
            return Ends(143, outcome("stopped", checkpointStep=7), conditions=(DISRUPTED,))
        return told(name)

    return playing(train)


def phase_of(stage: Stage, name: str) -> str:
    """Return the phase as it is stored."""
    found = stage.get(FINETUNEJOBS, name) or {}
    phase: str = found.get("status", {}).get("phase", "")
    return phase


def await_phase(stage: Stage, name: str, phase: str) -> dict[str, Any]:
    """Wait until a job is in a phase; return its status."""
    eventually(
        lambda: phase_of(stage, name) == phase, f"{name} in phase {phase}; it is {phase_of(stage, name)!r}"
    )
    status: dict[str, Any] = (stage.get(FINETUNEJOBS, name) or {})["status"]
    return status


def end_state(stage: Stage, name: str) -> Any:
    """Return everything about a job and its Jobs that does not speak of time or identity."""
    found = stage.get(FINETUNEJOBS, name)
    assert found is not None
    jobs = [each for each in stage.jobs() if each["metadata"]["labels"]["fettle.dev/owner-name"] == name]
    claims = [each["metadata"]["name"] for each in stage.items(CLAIMS)]
    document = {
        "status": _steady(found["status"]),
        "jobs": sorted(each["metadata"]["name"] for each in jobs if "verify" not in each["metadata"]["name"]),
        "claims": sorted(claims),
    }
    return json.loads(json.dumps(document, sort_keys=True).replace(name, "NAME"))


def wake_nodes(stage: Stage) -> None:
    """Let the stub look at every Job again."""
    for each in stage.jobs():
        stage.patch(JOBS, each["metadata"]["name"], {"metadata": {"annotations": {"test/wake": "now"}}})


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _steady(item) for key, item in value.items() if key not in _VOLATILE}
    return [_steady(item) for item in value] if isinstance(value, list) else value
