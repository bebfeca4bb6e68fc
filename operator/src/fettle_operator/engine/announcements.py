"""Events for people: what `kubectl describe` shows, posted when a condition changes and not otherwise."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from fettle_operator.conditions import timestamp
from fettle_operator.labels import MANAGER
from fettle_operator.resources import ApiResource, Manifest

__all__ = ["Announcement", "event_manifest", "transitions"]

_MESSAGE_MAX = 1024
_WARNING_TYPES = frozenset({"Reconciling", "Stalled"})


@dataclass(frozen=True)
class Announcement:
    """One event to post."""

    type: str
    """Normal or Warning."""
    reason: str
    message: str


def transitions(before: Sequence[Manifest], after: Sequence[Manifest]) -> tuple[Announcement, ...]:
    """Return an announcement for each reason that is new, or that moved to another condition's status.

    Several conditions may tell of one thing (not Ready, Stalled): it is announced once, as a warning
    if any of them is abnormal.
    """
    told = {(condition["type"], condition["status"], condition["reason"]) for condition in before}
    fresh = [c for c in after if (c["type"], c["status"], c["reason"]) not in told]
    announced: dict[str, Announcement] = {}
    for condition in sorted(fresh, key=_is_normal):
        if _is_worth_telling(condition):
            kind = "Normal" if _is_normal(condition) else "Warning"
            text = condition["message"][:_MESSAGE_MAX]
            announced.setdefault(condition["reason"], Announcement(kind, condition["reason"], text))
    return tuple(announced.values())


def event_manifest(
    resource: ApiResource, regarding: Manifest, announcement: Announcement, now: datetime
) -> Manifest:
    """Return the core/v1 Event. Its name is random: nothing ever looks an event up by name."""
    metadata = regarding["metadata"]
    moment = timestamp(now)
    return {
        "metadata": {
            "namespace": metadata["namespace"],
            "name": f"{metadata['name']}.{uuid.uuid4().hex[:16]}",
        },
        "involvedObject": {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "resourceVersion": metadata["resourceVersion"],
        },
        "type": announcement.type,
        "reason": announcement.reason,
        "message": announcement.message,
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "count": 1,
    }


def _is_normal(condition: Manifest) -> bool:
    return condition["type"] not in _WARNING_TYPES


def _is_worth_telling(condition: Manifest) -> bool:
    """`Unknown` and the absence of something are no news."""
    return bool(condition["type"] == "Ready" or condition["status"] == "True")
