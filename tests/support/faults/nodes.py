"""The node stub: plays the Job controller and the kubelet, so that a Job ends as the test wants it to."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from faults.upstream import Upstream
from fettle_operator.labels import MANAGED_SELECTOR
from fettle_operator.resources import JOBS, PODS

__all__ = ["Ends", "NodeStub", "Play", "Runs", "Waits", "failed_status"]

_MERGE = "application/merge-patch+json"


@dataclass(frozen=True)
class Ends:
    """The containers of all pods run and end; the first pod speaks for all."""

    exit_code: int
    message: str = ""
    reason: str = ""
    conditions: tuple[dict[str, Any], ...] = ()
    """Of the first pod, such as DisruptionTarget."""


@dataclass(frozen=True)
class Runs:
    """The containers run until the Job is deleted, or until the play says otherwise when the Job changes."""

    address: str = ""
    """Where the first pod can be asked."""


@dataclass(frozen=True)
class Waits:
    """The pod has this status and stays so."""

    status: dict[str, Any] = field(default_factory=dict)


Play = Callable[[dict[str, Any]], Ends | Runs | Waits | None]
"""What happens to a Job; None leaves it without a pod."""


class NodeStub:
    """Acts on every managed Job of one namespace."""

    def __init__(self, upstream: Upstream, namespace: str, play: Play) -> None:
        self._upstream = upstream
        self._namespace = namespace
        self.play = play
        self._busy: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def run(self) -> None:
        """Play until cancelled. Like the real controllers it looks at what is there, not at what it did before.

        Each Job's events are taken in their order, those of different Jobs at the same time, as nodes do.
        """
        async with asyncio.TaskGroup() as nodes:
            async for event in self._upstream.watch(
                JOBS.path(self._namespace), {"labelSelector": MANAGED_SELECTOR}
            ):
                nodes.create_task(self._react(event["type"], event["object"]))

    async def _react(self, what: str, job: dict[str, Any]) -> None:
        async with self._busy[job["metadata"]["uid"]]:
            if what == "DELETED":
                await self._collect(job)
            elif not job.get("status", {}).get("conditions") and not _suspended(job):
                await self._advance(job)

    async def _advance(self, job: dict[str, Any]) -> None:
        part = self.play(job)
        if part is None:
            return
        pods = [await self._pod_of(job, index) for index in range(job["spec"].get("completions", 1))]
        if isinstance(part, Waits):
            for pod in pods:
                await self._set_pod(pod, {"phase": "Pending", **part.status})
            return
        began = _now()
        for index, pod in enumerate(pods):
            await self._set_pod(pod, _running(pod, began, getattr(part, "address", "") if index == 0 else ""))
        if isinstance(part, Runs):
            return
        for index, pod in enumerate(pods):
            await self._set_pod(pod, _ended(pod, part, began, first=index == 0))
        await self._set_job(job, _succeeded() if part.exit_code == 0 else failed_status())

    async def _pod_of(self, job: dict[str, Any], index: int) -> dict[str, Any]:
        metadata, template = job["metadata"], job["spec"]["template"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": metadata["name"], "uid": metadata["uid"]}
        mark = f"-{index}" if index else ""
        pod = {
            "metadata": {
                # A Job that was made anew under the same name has another UID, hence another pod.
                "name": f"{metadata['name'][:50]}-{metadata['uid'][:5]}{mark}",
                "labels": template["metadata"]["labels"],
                "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
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

    async def _collect(self, job: dict[str, Any]) -> None:
        """Do the garbage collector's work for the pods of a Job that is gone."""
        code, found = await self._upstream.json("GET", PODS.path(self._namespace))
        for pod in found.get("items", []) if code == 200 else []:
            owners = pod["metadata"].get("ownerReferences", [])
            if any(owner["uid"] == job["metadata"]["uid"] for owner in owners):
                path = PODS.path(self._namespace, pod["metadata"]["name"])
                await self._upstream.json("DELETE", path, {"gracePeriodSeconds": 0})

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


def _container(pod: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    name = pod["spec"]["containers"][0]["name"]
    return {
        "name": name,
        "image": "stub",
        "imageID": "",
        "ready": False,
        "restartCount": 0,
        "state": state,
    }


def _running(pod: dict[str, Any], began: str, address: str) -> dict[str, Any]:
    told = {"podIP": address, "podIPs": [{"ip": address}]} if address else {}
    return {
        "phase": "Running",
        "containerStatuses": [_container(pod, {"running": {"startedAt": began}})],
        **told,
    }


def _ended(pod: dict[str, Any], part: Ends, began: str, *, first: bool) -> dict[str, Any]:
    ended = {
        "exitCode": part.exit_code,
        "message": part.message if first else "",
        "reason": part.reason or _word(part),
        "startedAt": began,
        "finishedAt": _now(),
    }
    conditions = {"conditions": list(part.conditions)} if first and part.conditions else {}
    return {
        "phase": "Succeeded" if part.exit_code == 0 else "Failed",
        "containerStatuses": [_container(pod, {"terminated": ended})],
        **conditions,
    }


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


def failed_status() -> dict[str, Any]:
    """Return the status of a Job that the Job controller has given up."""
    now = _now()
    conditions = [_condition("FailureTarget", now), _condition("Failed", now)]
    return {"startTime": now, "failed": 1, "conditions": conditions}


def _condition(kind: str, now: str) -> dict[str, Any]:
    return {"type": kind, "status": "True", "reason": "Stub", "message": "", "lastTransitionTime": now}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
