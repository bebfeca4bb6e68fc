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
    release: bool = False
    """Nothing holds the object that is being deleted any more: let it go instead of writing status."""


class Controller(Protocol):
    """One kind: what to do with an object of it."""

    resource: ApiResource
    finalizer: str | None
    """Kept on every object so that deletion waits for a `release`; None where deletion need not wait."""

    async def reconcile(self, live: Manifest, now: datetime) -> Report:
        """Observe, compute, apply, and report on one object; raise only errors of the domain."""
        ...
