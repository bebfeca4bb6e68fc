"""What was in force last, on disk, so that a router that restarts can serve while the API server is away."""

import json
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path

from fettle_router.errors import InvalidTable
from fettle_router.files import write_atomically
from fettle_router.slots import Endpoint, Slots

__all__ = ["recall", "remember"]


def remember(path: Path, table: str, slots: Mapping[str, Slots]) -> None:
    """Keep a table and where its pods stand."""
    places = {pool: [astuple(slot) if slot else None for slot in those] for pool, those in slots.items()}
    write_atomically(path, json.dumps({"table": table, "slots": places}))


def recall(path: Path) -> tuple[str, dict[str, Slots]] | None:
    """Return what was kept; nothing on a first start."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        slots = {
            pool: tuple(Endpoint(*slot) if slot else None for slot in those)
            for pool, those in kept["slots"].items()
        }
        return str(kept["table"]), slots
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidTable(f"{path}: what was kept cannot be read: {error}") from error
