"""What a kind's reconcile function hands back to the frame."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from fettle_operator.conditions import Condition
from fettle_operator.resources import ApiResource, Manifest

__all__ = ["Controller", "Report"]


@dataclass(frozen=True)
class Report:
    """The result of one pass: what to write into status, and when to look again."""

    conditions: tuple[Condition, ...] = ()
    status: Manifest = field(default_factory=dict)
    """The kind's own fields, complete; the frame adds conditions and observedGeneration."""
    again_in_s: float | None = None
    """Look again after this time even if nothing happens; None leaves it to the resync."""
    holds: bool = False
    """Somebody needs the object: a deletion has to wait. The frame keeps the kind's finalizer on as long as that is so."""


class Controller(Protocol):
    """One kind: what to do with an object of it."""

    resource: ApiResource
    finalizer: str | None
    """What lets a deletion wait while a report `holds` the object; None where deletion need not wait."""

    async def reconcile(self, live: Manifest, now: datetime) -> Report:
        """Observe, compute, apply, and report on one object; raise only errors of the domain."""
        ...
