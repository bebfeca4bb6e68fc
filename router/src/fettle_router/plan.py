"""What has to be done so that a running HAProxy serves a new rendering instead of the one it has (pure).

The order matters, because requests are served between any two steps: a revoked key goes first; what is referred
to is there before what refers to it and leaves after it; the version is told last.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from fettle_router.maps import ARMS, KEYS, LIMITS, LOADED, NAMES, Map
from fettle_router.render import Rendered
from fettle_router.slots import Endpoint, Slots

__all__ = [
    "Action",
    "AddEntry",
    "DeleteEntry",
    "Plan",
    "ReplaceMap",
    "SetEntry",
    "SetServer",
    "carry_over",
    "plan",
]

MAX_ACTIONS: Final = 2000
"""Above this a reload is quicker than telling every change."""


@dataclass(frozen=True)
class AddEntry:
    """A key that the map did not have."""

    map: str
    key: str
    value: str


@dataclass(frozen=True)
class SetEntry:
    """Another value for a key."""

    map: str
    key: str
    value: str


@dataclass(frozen=True)
class DeleteEntry:
    """A key that goes."""

    map: str
    key: str


@dataclass(frozen=True)
class ReplaceMap:
    """A whole map at once: no request sees half of it."""

    map: str
    entries: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SetServer:
    """Another pod in a slot, or none."""

    pool: str
    position: int
    endpoint: Endpoint | None


Action = AddEntry | SetEntry | DeleteEntry | ReplaceMap | SetServer


@dataclass(frozen=True)
class Plan:
    """Either a reload, or actions in the order in which they are to be taken."""

    reload: bool
    actions: tuple[Action, ...] = ()


def plan(before: Rendered | None, after: Rendered) -> Plan:
    """Return the way from one rendering to another; from nothing it is a reload."""
    if before is None or before.structure != after.structure:
        return Plan(reload=True)
    actions = tuple(_actions(before, after))
    return Plan(reload=True) if len(actions) > MAX_ACTIONS else Plan(reload=False, actions=actions)


def carry_over(before: Rendered, after: Rendered) -> tuple[Action, ...]:
    """Return what the process that a reload replaces has to learn first.

    It gives one more answer on each quiet connection, and by then a key may be revoked or a pod gone. Where
    traffic goes is not carried over: the old process does not know the new pools.
    """
    names = [name for name in (KEYS, LIMITS) if name in before.maps and name in after.maps]
    entries = [(name, before.maps[name], after.maps[name]) for name in names]
    kept = {
        pool: slots for pool, slots in after.slots.items() if len(before.slots.get(pool, ())) == len(slots)
    }
    return (
        *(action for entry in entries for action in _deletions(*entry)),
        *(action for entry in entries for action in _additions(*entry)),
        *_servers(before, kept),
    )


def _actions(before: Rendered, after: Rendered) -> Iterator[Action]:
    names = [name for name in NAMES if name in after.maps]
    if KEYS in names:
        yield from _deletions(KEYS, before.maps[KEYS], after.maps[KEYS])
    yield from _servers(before, after.slots)
    for name in names:
        if name == ARMS and before.maps[ARMS].keys() != after.maps[ARMS].keys():
            # Other ranges come all at once: between two of them a slot would belong to nobody, or to two arms.
            yield ReplaceMap(ARMS, tuple(after.maps[ARMS].items()))
        elif name != LOADED:
            yield from _additions(name, before.maps[name], after.maps[name])
    for name in reversed(names):
        if name not in {ARMS, KEYS}:
            yield from _deletions(name, before.maps[name], after.maps[name])
    yield from _additions(LOADED, before.maps[LOADED], after.maps[LOADED])


def _additions(name: str, before: Map, after: Map) -> Iterator[Action]:
    for key, value in after.items():
        if key not in before:
            yield AddEntry(name, key, value)
        elif before[key] != value:
            yield SetEntry(name, key, value)


def _deletions(name: str, before: Map, after: Map) -> Iterator[Action]:
    for key in before:
        if key not in after:
            yield DeleteEntry(name, key)


def _servers(before: Rendered, after: Mapping[str, Slots]) -> Iterator[Action]:
    """Put new pods in before old ones are taken out, so that a pool that is replaced is never empty."""
    changes = [
        SetServer(pool, position, endpoint)
        for pool, slots in after.items()
        for position, endpoint in enumerate(slots)
        if before.slots[pool][position] != endpoint
    ]
    yield from (change for change in changes if change.endpoint)
    yield from (change for change in changes if not change.endpoint)
