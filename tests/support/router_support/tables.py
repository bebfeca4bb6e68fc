"""Routing tables for tests: a complete one to start from, and changes to it by keyword."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from fettle_router.table import Table, parse

KEY = "sk-team-a"
OTHER_KEY = "sk-team-b"


def document(**changes: Any) -> dict[str, Any]:
    """Return a table as the operator writes it: a canary at 10 % in the main arm, one static variant at 20 %."""
    base: dict[str, Any] = {
        "format": 1,
        "version": 1,
        "deployment": "bot",
        "variantSalt": "0b0f6b2e",
        "rolloutSalt": "rollout-1",
        "models": ["bot", "org/bot-large"],
        "pools": [{"name": "pool-a", "service": "bot-pool-a", "port": 8000}],
        "revisions": [
            revision("rev-a"),
            revision("rev-b"),
            revision("rev-c"),
            revision("rev-d", ready=False),
        ],
        "arms": [main(7999, 1000), {"name": "formal", "bounds": bounds(8000, 9999), "revision": "rev-c"}],
        "pins": {"rev-a": "rev-a", "rev-b": "rev-b", "rev-d": "rev-d", "formal": "rev-c"},
        "access": {"mode": "keys", "clients": [client("team-a", KEY), client("team-b", OTHER_KEY)]},
    }
    return base | changes


def table(**changes: Any) -> Table:
    """Return the same, parsed."""
    return parse(json.dumps(document(**changes)))


def revision(name: str, pool: str = "pool-a", **more: Any) -> dict[str, Any]:
    return {"name": name, "pool": pool, **more}


def bounds(first: int, last: int) -> dict[str, int]:
    return {"first": first, "last": last}


def main(last: int = 9999, below: int | None = None) -> dict[str, Any]:
    """Return the main arm from slot 0 on, with a candidate when `below` says how much of it."""
    arm = {"name": "main", "bounds": bounds(0, last), "revision": "rev-a"}
    return arm if below is None else arm | {"candidate": {"revision": "rev-b", "below": below}}


def client(name: str, *keys: str, **limits: int) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name, "keyHashes": [sha256(key) for key in keys]}
    return entry | {"limits": limits} if limits else entry


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()
