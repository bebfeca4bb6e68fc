"""What keeps a pod from running, in the words of its own status and events. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fettle_operator.reasons import Reason
from fettle_operator.resources import Manifest

__all__ = ["TELLING_EVENTS", "Obstacle", "Termination", "obstacle_of", "refusal_of", "termination_of"]

_PULL = frozenset(
    {"ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName", "RegistryUnavailable"}
)
_CREATE = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})
_MOUNT_EVENTS = frozenset({"FailedMount", "FailedAttachVolume", "FailedMapVolume"})
_NODE_EVENTS = frozenset({"FailedCreatePodSandBox"})
_NO_POD = "FailedCreate"
TELLING_EVENTS = _MOUNT_EVENTS | _NODE_EVENTS | {_NO_POD}
"""The reasons of the events that tell why something does not run; all of them are warnings."""


@dataclass(frozen=True)
class Obstacle:
    """Why something waits, and what a person can do."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Termination:
    """How a pod's container ended, or the one that ran before it."""

    exit_code: int
    reason: str
    message: str
    """The termination message that the container itself left."""

    @property
    def out_of_memory(self) -> bool:
        """Tell whether the kernel killed it for using more memory than its limit."""
        return self.reason == "OOMKilled"


def termination_of(pod: Manifest) -> Termination | None:
    """Return how the container ended; None while it runs, and when the pod ended without running it.

    Where an earlier step failed, that is how the pod ended.
    """
    status = pod.get("status", {})
    first = [
        container
        for container in status.get("initContainerStatuses", [])
        if container.get("state", {}).get("terminated", {}).get("exitCode")
    ]
    for container in (*first, *status.get("containerStatuses", [])):
        ended = container.get("state", {}).get("terminated")
        if ended is not None:
            return Termination(int(ended["exitCode"]), ended.get("reason", ""), ended.get("message", ""))
    return None


def obstacle_of(pod: Manifest, events: Iterable[Manifest] = ()) -> Obstacle | None:
    """Return what keeps the pod from running; None when nothing is known to."""
    return _unscheduled(pod) or _uncreated(pod) or _unmounted(pod, events)


def refusal_of(events: Sequence[Manifest]) -> Obstacle | None:
    """Return why a controller could not create a pod, from the controller's events (FailedCreate)."""
    failures = [event for event in events if event.get("reason") == _NO_POD]
    if not failures:
        return None
    message = max(failures, key=_when).get("message", "")
    reason = Reason.QUOTA_EXCEEDED if "exceeded quota" in message else Reason.POD_REFUSED
    return Obstacle(reason, message)


def _unscheduled(pod: Manifest) -> Obstacle | None:
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            message = condition.get("message") or "no node has been found for the pod yet"
            return Obstacle(_scheduling_reason(message), message)
    return None


def _scheduling_reason(message: str) -> Reason:
    if "persistentvolumeclaim" not in message.lower():
        return Reason.UNSCHEDULABLE
    return Reason.CLAIM_NOT_FOUND if "not found" in message else Reason.CLAIM_NOT_BOUND


def _uncreated(pod: Manifest) -> Obstacle | None:
    status = pod.get("status", {})
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        waiting = container.get("state", {}).get("waiting") or {}
        word, text = waiting.get("reason", ""), waiting.get("message", "")
        if word in _PULL:
            return Obstacle(Reason.IMAGE_PULL_FAILED, f"image {container.get('image', '')}: {word}: {text}")
        if word in _CREATE:
            return Obstacle(Reason.CONTAINER_NOT_CREATED, f"{word}: {text}")
    return None


def _unmounted(pod: Manifest, events: Iterable[Manifest]) -> Obstacle | None:
    if pod.get("status", {}).get("phase", "Pending") != "Pending":
        return None
    known = [event for event in events if event.get("reason") in _MOUNT_EVENTS | _NODE_EVENTS]
    if not known:
        return None
    latest = max(known, key=_when)
    mount = latest["reason"] in _MOUNT_EVENTS
    reason = Reason.VOLUME_NOT_MOUNTED if mount else Reason.CONTAINER_NOT_CREATED
    return Obstacle(reason, latest.get("message", ""))


def _when(event: Manifest) -> str:
    told = event.get("lastTimestamp") or event.get("eventTime")
    return str(told or event["metadata"].get("creationTimestamp", ""))
