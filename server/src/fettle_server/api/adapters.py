"""`/adapters` of the admin port: the full list of what is to be served, and the answer what really is.

The same documents hold for every engine, and for the file that `--adapters` names.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, Field

from fettle_server.engine.types import AdapterSpec, State
from fettle_server.layer.asgi import Refused

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from pathlib import Path

    from fettle_server.engine.types import AdapterState

__all__ = [
    "AdapterEntry",
    "AdapterReport",
    "AdapterStatus",
    "RevisionName",
    "WantedAdapters",
    "report",
    "specs",
]

RevisionName = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
"""What a routing table takes as the name of a revision."""


class _Document(BaseModel):
    """What all of these documents have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class AdapterEntry(_Document):
    """An adapter that is to be served."""

    revision: RevisionName
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
    path: Annotated[str, Field(min_length=1, max_length=1024)]
    """Its release folder, relative to the adapters' root."""


class WantedAdapters(_Document):
    """All adapters that are to be served: one that is not listed is dropped once its requests are done."""

    adapters: Annotated[list[AdapterEntry], Field(max_length=1024)]


class AdapterStatus(_Document):
    """Where an adapter stands."""

    revision: str
    digest: str
    state: State
    reason: str = ""
    """One CamelCase word; empty unless refused."""
    message: str = ""
    """What is wrong and what to do."""
    in_flight: int = 0


class AdapterReport(_Document):
    """What is loaded."""

    base: str
    """The revision name of the base model."""
    ready: bool
    """Whether the base and every wanted adapter has answered, those that were refused apart."""
    adapters: list[AdapterStatus]


def specs(wanted: WantedAdapters, root: Path, reserved: Collection[str]) -> list[AdapterSpec]:
    """Return what the engine is to serve; refuse a list that says one name twice or leads out of the root."""
    _refuse_twice(entry.revision for entry in wanted.adapters)
    return [
        _spec(entry, f"adapters[{number}]", root.resolve(), reserved)
        for number, entry in enumerate(wanted.adapters)
    ]


def report(base: str, states: Iterable[AdapterState], *, ready: bool) -> AdapterReport:
    """Return the answer to GET and PUT alike."""
    return AdapterReport(
        base=base,
        ready=ready,
        adapters=[
            AdapterStatus(
                revision=state.revision,
                digest=state.digest,
                state=state.state,
                reason=state.reason,
                message=state.message,
                in_flight=state.in_flight,
            )
            for state in states
        ],
    )


def _spec(entry: AdapterEntry, where: str, root: Path, reserved: Collection[str]) -> AdapterSpec:
    if entry.revision in reserved:
        message = (
            f"{where}.revision: {entry.revision!r} is a name of the base model. Give the adapter another one."
        )
        raise Refused(400, "reserved_name", message, f"{where}.revision")
    if "\0" in entry.path or not (folder := (root / entry.path).resolve()).is_relative_to(root):
        message = f"{where}.path: {entry.path!r} is outside of the adapters' root {root}."
        raise Refused(400, "path_outside_root", message, f"{where}.path")
    return AdapterSpec(entry.revision, entry.digest, str(folder.relative_to(root)))


def _refuse_twice(names: Iterable[str]) -> None:
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        message = f"adapters: the revision {twice[0]!r} is listed twice. List it once."
        raise Refused(400, "listed_twice", message, "adapters")
