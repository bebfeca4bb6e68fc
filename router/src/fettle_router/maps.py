"""The lookup tables that HAProxy consults for every request, made from the routing table (pure).

They are files when HAProxy starts and change through its runtime socket afterwards. Each holds one kind of
answer, so that one change of the table is one small change here:

| map | from | to |
|---|---|---|
| keys | SHA-256 of an API key | client |
| limits | client | requests per minute `:` concurrency, 0 for none |
| models | model name | itself |
| pins | name that can be asked for | revision |
| unready | revision that is not loaded | 1 |
| pools | revision | backend |
| splits | arm | candidate's share `:` salt `:` candidate `:` stable revision |
| arms | range of slots | arm |
| cards | path below `/v1/models` | the JSON that is answered |
| loaded | `version` | version of the table |
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from fettle_router.table import Arm, Table

__all__ = ["ARMS", "CARDS", "KEYS", "LIMITS", "LOADED", "NAMES", "Map", "Maps", "maps"]

KEYS: Final = "keys"
LIMITS: Final = "limits"
ARMS: Final = "arms"
CARDS: Final = "cards"
LOADED: Final = "loaded"

NAMES: Final = (KEYS, LIMITS, "models", "pools", "unready", "pins", "splits", ARMS, CARDS, LOADED)
"""All maps, in the order in which additions are made: what is referred to comes before what refers to it."""

Map = Mapping[str, str]
Maps = Mapping[str, Map]


def maps(table: Table) -> dict[str, dict[str, str]]:
    """Return every map of a table by name."""
    keys = {key: client.name for client in table.access.clients for key in client.key_hashes}
    return {
        # HAProxy knows only the maps that its rules use, and an open endpoint looks up no key.
        **({KEYS: keys} if table.access.mode == "keys" else {}),
        LIMITS: dict(_limits(table)),
        "models": {model: model for model in table.models},
        "pools": {revision.name: revision.pool for revision in table.revisions},
        "unready": {revision.name: "1" for revision in table.revisions if not revision.ready},
        "pins": dict(table.pins),
        "splits": {arm.name: _split(arm, table.rollout_salt) for arm in table.arms},
        ARMS: {f"{arm.bounds.first}:{arm.bounds.last}": arm.name for arm in table.arms if arm.bounds},
        CARDS: dict(_cards(table)),
        LOADED: {"version": str(table.version)},
    }


def _limits(table: Table) -> Iterator[tuple[str, str]]:
    everybody = [(client.name, table.limits_of(client)) for client in table.access.clients]
    if table.access.mode == "open":
        everybody.append(("anonymous", table.limits))
    for name, limits in everybody:
        yield name, f"{limits.requests_per_minute or 0}:{limits.concurrency or 0}"


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
