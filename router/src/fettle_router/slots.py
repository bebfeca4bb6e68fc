"""Which pod stands in which server slot of a pool.

HAProxy's backends have a fixed number of slots, so that pods come and go through its runtime socket without a
reload. A pod keeps its slot for as long as it lives; a freed slot is reused.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["MAX_SLOTS", "Endpoint", "Slots", "assign", "server_name"]

MIN_SLOTS: Final = 8
MAX_SLOTS: Final = 1024

Slots = tuple["Endpoint | None", ...]
"""The slots of one pool; none stands for a free one."""


@dataclass(frozen=True, order=True)
class Endpoint:
    """Where one pod listens."""

    address: str
    port: int


def assign(before: Slots, endpoints: Iterable[Endpoint]) -> Slots:
    """Place endpoints so that as few slots as possible change; the number of slots only ever doubles."""
    wanted = set(sorted(set(endpoints))[:MAX_SLOTS])
    slots: list[Endpoint | None] = [slot if slot in wanted else None for slot in before]
    slots += [None] * (_enough_for(len(wanted), len(before)) - len(slots))
    newcomers = sorted(wanted.difference(slot for slot in slots if slot))
    for position, endpoint in zip(_free(slots), newcomers, strict=False):
        slots[position] = endpoint
    return tuple(slots)


def server_name(position: int) -> str:
    """Return the name of a slot's server."""
    return f"s{position}"


def _enough_for(wanted: int, size: int) -> int:
    size = max(size, MIN_SLOTS)
    while size < wanted:
        size *= 2
    return size


def _free(slots: Sequence[Endpoint | None]) -> list[int]:
    return [position for position, slot in enumerate(slots) if slot is None]
