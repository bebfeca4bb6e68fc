"""The lookup tables that HAProxy consults for every request, made from the routing table (pure).

They are files when HAProxy starts and change through its runtime socket afterwards. Each holds one kind of
answer, so that one change of the table is one small change here:

| map | from | to |
|---|---|---|
| keys | SHA-256 of an API key | client |
| limits | client that has any | requests per minute `:` concurrency `:` second of the clock until which its tokens are used up |
| models | model name | itself |
| pins | name that can be asked for | revision |
| unready | revision that is not loaded | 1 |
| revisions | revision | backend `/` role |
| arms | range of slots | candidate's share `:` salt `:` candidate `:` stable revision |
| pods | end of the ids of a pod's answers | backend `/` server |
| cards | path below `/v1/models` | the JSON that is answered |
| loaded | `version` | version of the table |
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fettle_router.pods import tag
from fettle_router.slots import Endpoint, Slots, server_name
from fettle_router.table import Arm, Limits, Table

__all__ = ["ARMS", "CARDS", "KEYS", "LIMITS", "LOADED", "NAMES", "Map", "Maps", "maps"]

KEYS: Final = "keys"
LIMITS: Final = "limits"
ARMS: Final = "arms"
CARDS: Final = "cards"
LOADED: Final = "loaded"

NAMES: Final = (KEYS, LIMITS, "models", "pods", "revisions", "unready", "pins", ARMS, CARDS, LOADED)
"""All maps, in the order in which additions are made: what is referred to comes before what refers to it."""

Map = Mapping[str, str]
Maps = Mapping[str, Map]


NONE: Final = 4_000_000_000
"""Stands for no limit: more than a table can ask for, so that HAProxy need not ask whether there is one."""


def maps(
    table: Table, slots: Mapping[str, Slots], blocked: Mapping[str, int] | None = None
) -> dict[str, dict[str, str]]:
    """Return every map by name; `blocked` holds clients without tokens, each until a second of the clock."""
    keys = {key: client.name for client in table.access.clients for key in client.key_hashes}
    return {
        # HAProxy knows only the maps that its rules use, and an open endpoint looks up no key.
        **({KEYS: keys} if table.access.mode == "keys" else {}),
        LIMITS: {
            name: _limits(limits, (blocked or {}).get(name, 0))
            for name, limits in table.limits_by_caller.items()
            if limits != Limits()
        },
        "models": {model: model for model in table.models},
        "pods": {tag(pod): f"{pool}/{server}" for pool, server, pod in _pods(slots)},
        "revisions": {each.name: f"{each.pool}/{_role(table, each.name)}" for each in table.revisions},
        "unready": {revision.name: "1" for revision in table.revisions if not revision.ready},
        "pins": dict(table.pins),
        ARMS: {
            f"{arm.bounds.first}:{arm.bounds.last}": _split(arm, table.rollout_salt)
            for arm in table.arms
            if arm.bounds
        },
        CARDS: dict(_cards(table)),
        LOADED: {"version": str(table.version)},
    }


def _limits(limits: Limits, blocked_until: int) -> str:
    return f"{limits.requests_per_minute or NONE}:{limits.concurrency or NONE}:{blocked_until}"


def _pods(slots: Mapping[str, Slots]) -> Iterator[tuple[str, str, Endpoint]]:
    for pool, those in slots.items():
        for position, pod in enumerate(those):
            if pod:
                yield pool, server_name(position), pod


def _role(table: Table, revision: str) -> str:
    """Return what a revision is to the rollout; one that only a pin leads to has no part in it."""
    main = table.main
    if main.candidate and main.candidate.revision == revision:
        return "canary"
    if main.revision == revision:
        return "stable"
    return "variant" if any(arm.revision == revision for arm in table.arms) else ""


def _split(arm: Arm, salt: str) -> str:
    if arm.candidate is None:
        return f"0:::{arm.revision}"
    return f"{arm.candidate.below}:{salt}:{arm.candidate.revision}:{arm.revision}"


def _cards(table: Table) -> Iterator[tuple[str, str]]:
    cards = {model: _card(model, None) for model in table.models}
    shown = table.models[0]
    adapters = {revision.name: revision.adapter for revision in table.revisions}
    for pin, revision in sorted(table.pins.items()):
        name = f"{shown}@{pin}"
        cards[name] = _card(name, shown) | {"revision": revision, "adapter": adapters[revision]}
    yield "/v1/models", _compact({"object": "list", "data": list(cards.values())})
    for name, card in cards.items():
        for spelling in sorted(
            {name, name.replace("@", "%40"), name.replace("@", "%40").replace("/", "%2F")}
        ):
            yield f"/v1/models/{spelling}", _compact(card)


def _card(name: str, parent: str | None) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "fettle", "root": name, "parent": parent}


def _compact(value: object) -> str:
    """Without any space, because a space would end a word on the runtime socket."""
    return json.dumps(value, separators=(",", ":"))
