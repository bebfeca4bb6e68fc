"""The node stub: plays the Job controller and the kubelet, so that a Job ends as the test wants it to."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from faults.upstream import Upstream
from fettle_operator.labels import MANAGED_SELECTOR
from fettle_operator.resources import JOBS, PODS

__all__ = ["Ends", "NodeStub", "Play", "Waits"]

_MERGE = "application/merge-patch+json"


@dataclass(frozen=True)
class Ends:
    """The container runs and ends."""

    exit_code: int
    message: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Waits:
    """The pod has this status and stays so."""

    status: dict[str, Any] = field(default_factory=dict)


Play = Callable[[dict[str, Any]], Ends | Waits | None]
"""What happens to a Job; None leaves it without a pod."""


class NodeStub:
    """Acts on every managed Job of one namespace."""

    def __init__(self, upstream: Upstream, namespace: str, play: Play) -> None:
        self._upstream = upstream
        self._namespace = namespace
        self.play = play

    async def run(self) -> None:
        """Play until cancelled. Like the real controllers it looks at what is there, not at what it did before."""
        async for event in self._upstream.watch(
            JOBS.path(self._namespace), {"labelSelector": MANAGED_SELECTOR}
        ):
            job = event["object"]
            if (
                event["type"] != "DELETED"
                and not job.get("status", {}).get("conditions")
                and not _suspended(job)
            ):
                await self._advance(job)

    async def _advance(self, job: dict[str, Any]) -> None:
        part = self.play(job)
        if part is None:
            return
        pod = await self._pod_of(job)
        if isinstance(part, Waits):
            await self._set_pod(pod, {"phase": "Pending", **part.status})
            return
        await self._set_pod(pod, {"phase": "Running"})
        ended = {"exitCode": part.exit_code, "message": part.message, "reason": part.reason or _word(part)}
        state = {"name": "verify", "image": "stub", "imageID": "", "ready": False, "restartCount": 0}
        phase = "Succeeded" if part.exit_code == 0 else "Failed"
        await self._set_pod(
            pod, {"phase": phase, "containerStatuses": [{**state, "state": {"terminated": ended}}]}
        )
        await self._set_job(job, _succeeded() if part.exit_code == 0 else _failed())

    async def _pod_of(self, job: dict[str, Any]) -> dict[str, Any]:
        metadata, template = job["metadata"], job["spec"]["template"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
        pod = {
            "metadata": {
                # A Job that was made anew under the same name has another UID, hence another pod.
                "name": f"{metadata['name'][:50]}-{metadata['uid'][:5]}",
                "labels": template["metadata"]["labels"],
                "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
            },
            "spec": template["spec"],
        }
        code, made = await self._upstream.json("POST", PODS.path(self._namespace), pod)
        if code == 409:
            code, made = await self._upstream.json("GET", PODS.path(self._namespace, pod["metadata"]["name"]))
        if code >= 400:
            raise AssertionError(f"the pod was refused: {made}")
        found: dict[str, Any] = made
        return found

    async def _set_pod(self, pod: dict[str, Any], status: dict[str, Any]) -> None:
        path = PODS.path(self._namespace, pod["metadata"]["name"], "status")
        await self._upstream.json("PATCH", path, {"status": status}, _MERGE)

    async def _set_job(self, job: dict[str, Any], status: dict[str, Any]) -> None:
        path = JOBS.path(self._namespace, job["metadata"]["name"], "status")
        code, reply = await self._upstream.json("PATCH", path, {"status": status}, _MERGE)
        # A Job that is gone by now cannot end any more.
        if code >= 400 and code != 404:
            raise AssertionError(f"the Job's status was refused: {json.dumps(reply)}")
        await asyncio.sleep(0)


def _suspended(job: dict[str, Any]) -> bool:
    return bool(job["spec"].get("suspend"))


def _word(part: Ends) -> str:
    return "Completed" if part.exit_code == 0 else "Error"


def _succeeded() -> dict[str, Any]:
    now = _now()
    return {
        "startTime": now,
        "completionTime": now,
        "succeeded": 1,
        "conditions": [_condition("SuccessCriteriaMet", now), _condition("Complete", now)],
    }


def _failed() -> dict[str, Any]:
    now = _now()
    conditions = [_condition("FailureTarget", now), _condition("Failed", now)]
    return {"startTime": now, "failed": 1, "conditions": conditions}


def _condition(kind: str, now: str) -> dict[str, Any]:
    return {"type": kind, "status": "True", "reason": "Stub", "message": "", "lastTransitionTime": now}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
