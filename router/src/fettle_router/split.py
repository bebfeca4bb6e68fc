"""Which revision a key leads to: the reference that HAProxy's rules must agree with.

Nothing here runs for a request. The operator's tests, the router's tests and people who ask "who is in the
canary?" use it; a test compares it with a real HAProxy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fettle_router.hashing import xxh32
from fettle_router.table import MAIN, SLOTS, Arm, Table

__all__ = ["Choice", "Role", "choose", "slot"]

Role = Literal["stable", "candidate", "variant"]


@dataclass(frozen=True)
class Choice:
    """Where a request goes."""

    arm: str
    revision: str
    role: Role


def slot(key: str, salt: str) -> int:
    """Return the slot, 0 to 9999, of a sticky key."""
    return xxh32(f"{key}:{salt}".encode()) % SLOTS


def choose(table: Table, key: str | None, *, draw: Callable[[], int]) -> Choice:
    """Return where a request goes that is not pinned; without a key `draw` gives each slot by chance."""
    arm = _arm_of(table, draw() if key is None else slot(key, table.variant_salt))
    if arm.candidate is None:
        return Choice(arm.name, arm.revision, "stable" if arm.name == MAIN else "variant")
    if (draw() if key is None else slot(key, table.rollout_salt)) < arm.candidate.below:
        return Choice(arm.name, arm.candidate.revision, "candidate")
    return Choice(arm.name, arm.revision, "stable")


def _arm_of(table: Table, position: int) -> Arm:
    return next(arm for arm in table.arms if arm.bounds and arm.bounds.first <= position <= arm.bounds.last)
