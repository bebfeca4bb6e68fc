"""Conditions: what is known about an object, aspect by aspect.

A pass states the whole set it believes in; this module keeps the history (`lastTransitionTime`). The
kstatus rules hold: `Reconciling` and `Stalled` are present only when they are true, `Ready` always.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from fettle_operator.reasons import Reason
from fettle_operator.resources import Manifest

__all__ = [
    "READY",
    "RECONCILING",
    "STALLED",
    "Condition",
    "Truth",
    "find",
    "timestamp",
    "updated",
]

READY = "Ready"
RECONCILING = "Reconciling"
STALLED = "Stalled"
Truth = Literal["True", "False", "Unknown"]
_MESSAGE_MAX = 1024


@dataclass(frozen=True)
class Condition:
    """One aspect, as a pass sees it now."""

    type: str
    status: Truth
    reason: Reason
    message: str


def updated(
    previous: Sequence[Mapping[str, str]], wanted: Iterable[Condition], generation: int, now: datetime
) -> list[Manifest]:
    """Return the conditions to store: those wanted, each with the time at which its status last flipped."""
    known = {condition["type"]: condition for condition in previous}
    return [_stored(known.get(condition.type), condition, generation, now) for condition in wanted]


def find(conditions: Sequence[Manifest], wanted: str) -> Condition | None:
    """Return the stored condition of a type; None when there is none or its reason is not one of ours."""
    for condition in conditions:
        if condition["type"] == wanted and condition["reason"] in _KNOWN_REASONS:
            return Condition(wanted, condition["status"], Reason(condition["reason"]), condition["message"])
    return None


def timestamp(moment: datetime) -> str:
    """Write a moment as Kubernetes does: UTC, whole seconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


_KNOWN_REASONS = frozenset(Reason)


def _stored(
    previous: Mapping[str, str] | None, condition: Condition, generation: int, now: datetime
) -> Manifest:
    flipped = previous is None or previous["status"] != condition.status
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason.value,
        "message": _shortened(condition.message),
        "lastTransitionTime": timestamp(now)
        if previous is None or flipped
        else previous["lastTransitionTime"],
        "observedGeneration": generation,
    }


def _shortened(message: str) -> str:
    return message if len(message) <= _MESSAGE_MAX else f"{message[: _MESSAGE_MAX - 1]}…"
