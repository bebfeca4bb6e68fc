"""`/v1/models`: what can be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fettle_server.layer.asgi import Refused
from fettle_trainer.strict_json import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fettle_server.api.names import Names
    from fettle_server.engine.types import AdapterState

__all__ = ["model", "models"]


def models(names: Names, adapters: Iterable[AdapterState], created: int) -> dict[str, Any]:
    """Return the list: the alias, the base, and every adapter that answers."""
    bases = dict.fromkeys((names.alias, names.base))
    ready = [adapter for adapter in adapters if adapter.state == "Ready"]
    return {
        "object": "list",
        "data": [
            *(_entry(name, created, root=names.base, parent=None) for name in bases),
            *(_entry(it.revision, created, root=it.digest, parent=names.base) for it in ready),
        ],
    }


def model(name: str, listed: dict[str, Any]) -> dict[str, Any]:
    """Return one of the list."""
    for entry in listed["data"]:
        if entry["id"] == name:
            found: dict[str, Any] = entry
            return found
    raise Refused(404, "model_not_found", f"The model {shown(name)} does not exist.", "model")


def _entry(name: str, created: int, *, root: str, parent: str | None) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": "fettle",
        "root": root,
        "parent": parent,
    }
