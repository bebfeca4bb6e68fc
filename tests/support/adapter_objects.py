"""Builders of the objects around an Adapter; each states only what its test is about."""

import json
from typing import Any

__all__ = ["NOW", "REPORT", "SETTINGS", "adapter", "ended_job", "job_of", "pod_of", "refused", "terminated"]

from datetime import UTC, datetime

from fettle_operator.adapters.desired import verification_job
from fettle_operator.settings import Settings

NOW = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
SETTINGS = Settings.model_validate(
    {
        "verifier": {"image": "registry.fettle.dev/operator:1"},
        "backoff": {"initialSeconds": 1, "maxSeconds": 60},
    }
)
REPORT: dict[str, Any] = {
    "outcome": "verified",
    "adapter": {
        "digest": "sha256:" + "a" * 64,
        "sizeBytes": 1234,
        "method": "lora",
        "rank": 8,
        "alpha": 16,
        "targetModules": ["q_proj"],
        "baseModel": "example/base",
        "fileCount": 1,
        "tensorCount": 2,
        "hasManifest": False,
        "files": [{"path": "adapter_config.json", "sha256": "b" * 64, "sizeBytes": 12}],
    },
}


def adapter(**changes: Any) -> dict[str, Any]:
    """Return an Adapter as the API server holds it."""
    spec = {"source": {"volume": {"claimName": "store", "path": "adapters/tuned"}}, **changes.pop("spec", {})}
    metadata = {
        "namespace": "team",
        "name": "tuned",
        "uid": "adapter-uid",
        "resourceVersion": "1",
        "generation": 1,
        "creationTimestamp": "2026-01-01T11:59:55Z",
        **changes.pop("metadata", {}),
    }
    return {
        "apiVersion": "fettle.dev/v1alpha1",
        "kind": "Adapter",
        "metadata": metadata,
        "spec": spec,
        **changes,
    }


def job_of(owner: dict[str, Any], attempt: int = 1, **status: Any) -> dict[str, Any]:
    """Return the verification Job of an attempt as the API server holds it."""
    job = verification_job(owner, attempt, SETTINGS)
    identity = {"uid": f"job-{attempt}", "resourceVersion": "1", "creationTimestamp": "2026-01-01T11:59:00Z"}
    return {**job, "metadata": {**job["metadata"], **identity}, "status": status}


def ended_job(owner: dict[str, Any], attempt: int = 1, kind: str = "Failed") -> dict[str, Any]:
    """Return the Job after its end, a minute before NOW."""
    condition = {
        "type": kind,
        "status": "True",
        "reason": "BackoffLimitExceeded",
        "message": "Job has reached the specified backoff limit",
        "lastTransitionTime": "2026-01-01T11:59:30Z",
    }
    return job_of(owner, attempt, conditions=[condition])


def pod_of(job: dict[str, Any], **status: Any) -> dict[str, Any]:
    """Return the pod of a Job."""
    owner = {
        "kind": "Job",
        "name": job["metadata"]["name"],
        "uid": job["metadata"]["uid"],
        "controller": True,
    }
    metadata = {
        "namespace": job["metadata"]["namespace"],
        "name": f"{job['metadata']['name']}-x",
        "uid": f"pod-of-{job['metadata']['uid']}",
        "labels": job["spec"]["template"]["metadata"]["labels"],
        "creationTimestamp": "2026-01-01T11:59:05Z",
        "ownerReferences": [owner],
    }
    return {"metadata": metadata, "status": {"phase": "Pending", **status}}


def terminated(exit_code: int, message: str = "", reason: str = "Error") -> dict[str, Any]:
    """Return the status of a pod whose container has ended."""
    state = {"terminated": {"exitCode": exit_code, "message": message, "reason": reason}}
    phase = "Succeeded" if exit_code == 0 else "Failed"
    return {"phase": phase, "containerStatuses": [{"name": "verify", "state": state}]}


def refused(code: str = "DigestMismatch", message: str = "it is wrong", file: str = "") -> str:
    """Return the termination message of a refusal."""
    return json.dumps({"outcome": "refused", "error": {"code": code, "message": message, "file": file}})
