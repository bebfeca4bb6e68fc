"""Builders of the objects around a FineTuneJob; each states only what its test is about."""

import json
from datetime import UTC, datetime
from typing import Any

from fettle_operator.settings import Settings

__all__ = [
    "DIGEST",
    "NOW",
    "SETTINGS",
    "UID",
    "checked",
    "failed",
    "finetunejob",
    "outcome",
    "pod_end",
    "pod_of",
    "rejected",
    "succeeded",
]

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
UID = "0d9f1b1e-job"
DIGEST = "sha256:" + "a" * 64
SETTINGS = Settings.model_validate(
    {
        "verifier": {"image": "registry.fettle.dev/operator:1"},
        "backoff": {"initialSeconds": 1, "maxSeconds": 60},
        "profiles": {
            "cpu": {
                "images": {
                    "trainer": "registry.fettle.dev/trainer:1",
                    "server": "registry.fettle.dev/server:1",
                },
                "resources": {
                    "requests": {"cpu": "1", "memory": "2Gi"},
                    "limits": {"cpu": "4", "memory": "8Gi"},
                },
            },
            "gpu": {
                "images": {
                    "trainer": "registry.fettle.dev/trainer:1",
                    "server": "registry.fettle.dev/server:1",
                },
                "gpusPerProcess": 1,
                "sharedMemory": "8Gi",
                "nodeSelector": {"gpu": "yes"},
                "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
                "env": {"HF_ENDPOINT": "https://mirror.example.com"},
            },
        },
    }
)


_FORECAST = {
    "device": "cpu",
    "steps": 20,
    "batchSize": 8,
    "microBatchSize": 4,
    "gradientCheckpointing": False,
    "precision": "fp32",
    "zeroStage": 0,
    "memoryBytes": 2**30,
    "fits": True,
}


def finetunejob(name: str = "tone", **spec: Any) -> dict[str, Any]:
    """Return a FineTuneJob as the API server holds it: a model and data on claims, unless another spec is named."""
    return {
        "apiVersion": "fettle.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {
            "namespace": "team",
            "name": name,
            "uid": UID,
            "resourceVersion": "1",
            "generation": 1,
            "creationTimestamp": "2026-01-01T11:59:55Z",
        },
        "spec": {
            "model": {"volume": {"claimName": "models", "path": "tiny"}},
            "dataset": {"train": [{"configMap": {"name": "rows", "key": "train.jsonl"}}]},
            **spec,
        },
    }


def outcome(kind: str, **fields: Any) -> str:
    """Return the trainer's last words."""
    return json.dumps({"outcome": kind, **fields})


def succeeded(name: str = "tone", **fields: Any) -> str:
    """Return the last words of a run that came to a good end."""
    adapter = {"name": name, "digest": DIGEST, "path": f"{name}/sha256-{'a' * 64}"}
    facts = {"adapter": adapter, "step": 20, "totalSteps": 20, "checkpointStep": 20, "microBatchSize": 4}
    return outcome("succeeded", **{**facts, "metrics": {"loss": 1.5, "base-loss": 2.5}, **fields})


def failed(
    kind: str = "failed", code: str = "InternalError", message: str = "it broke", **fields: Any
) -> str:
    """Return the last words of a run that did not."""
    return outcome(kind, error={"code": code, "message": message}, **fields)


def checked(rows: int = 90, **forecast: Any) -> str:
    """Return the report of data that is good, and perhaps what the run will need."""
    tokens = {
        "maxLength": 256,
        "rows": rows,
        "validationRows": 10,
        "tokens": 9000,
        "trainedTokens": 3000,
        "trainedTokenShare": 0.333,
        "longest": 250,
        "median": 100,
        "p99": 240,
        "overlong": 0,
        "dropped": 0,
        "truncated": 0,
        "untrained": 0,
    }
    return json.dumps(
        {
            "passed": True,
            "format": "chat",
            "rows": rows,
            "validationRows": 10,
            "digest": DIGEST,
            "tokens": tokens,
            **({"forecast": {**_FORECAST, **forecast}} if forecast else {}),
        }
    )


def rejected() -> str:
    """Return the report of data that is not."""
    finding = {
        "code": "InvalidJson",
        "severity": "error",
        "message": "the line is no JSON; a quote is missing",
        "file": "/configmaps/rows/train.jsonl",
        "line": 7,
    }
    return json.dumps(
        {"passed": False, "rows": 6, "badRows": 1, "counts": {"InvalidJson": 1}, "findings": [finding]}
    )


def pod_of(job: dict[str, Any], index: int = 0, **status: Any) -> dict[str, Any]:
    """Return one of a Job's pods."""
    owner = {
        "kind": "Job",
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
        "controller": True,
    }
    return {
        "metadata": {
            "namespace": job["metadata"]["namespace"],
            "name": f"{job['metadata']['name']}-{index}-x",
            "uid": f"pod-{index}-of-{job['metadata']['uid']}",
            "labels": job["spec"]["template"]["metadata"]["labels"],
            "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
            "creationTimestamp": "2026-01-01T11:59:56Z",
            "ownerReferences": [owner],
        },
        "spec": {"nodeName": f"node-{index}"},
        "status": {"phase": "Pending", **status},
    }


def pod_end(
    code: int, message: str = "", reason: str = "", began: str = "2026-01-01T12:00:00Z", **more: Any
) -> dict[str, Any]:
    """Return the status of a pod whose container has ended."""
    ended = {
        "exitCode": code,
        "message": message,
        "reason": reason or ("Completed" if code == 0 else "Error"),
        "startedAt": began,
        "finishedAt": began,
    }
    phase = "Succeeded" if code == 0 else "Failed"
    return {
        "phase": phase,
        "containerStatuses": [{"name": "trainer", "state": {"terminated": ended}}],
        **more,
    }
