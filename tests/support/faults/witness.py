"""The witness: watches past the proxy and writes down what really happened."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from faults.upstream import Upstream
from fettle_operator.resources import ADAPTERS, CONFIGMAPS, EVENTS, JOBS, PODS, ApiResource

__all__ = ["Seen", "Witness"]

_WATCHED: tuple[ApiResource, ...] = (ADAPTERS, JOBS, CONFIGMAPS, PODS, EVENTS)


@dataclass(frozen=True)
class Seen:
    """One change of one object."""

    type: str
    kind: str
    name: str
    uid: str
    manifest: dict[str, Any]


class Witness:
    """The history of one namespace."""

    def __init__(self, upstream: Upstream, namespace: str) -> None:
        self._upstream = upstream
        self._namespace = namespace
        self.history: list[Seen] = []

    async def watch(self) -> None:
        """Write the history until cancelled."""
        await asyncio.gather(*(self._watch(resource) for resource in _WATCHED))

    def counts(self, kinds: Sequence[str] = ("Adapter", "Job")) -> Counter[tuple[str, str, str]]:
        """Return how often each object was created and deleted."""
        told = [
            seen for seen in list(self.history) if seen.type in {"ADDED", "DELETED"} and seen.kind in kinds
        ]
        return Counter((seen.type, seen.kind, seen.name) for seen in told)

    def live_jobs_at_most(self) -> int:
        """Return the largest number of unfinished Jobs that ever existed at the same time."""
        unfinished: set[str] = set()
        most = 0
        for seen in list(self.history):
            if seen.kind == "Job":
                ended = any(
                    condition["type"] in {"Complete", "Failed"} and condition["status"] == "True"
                    for condition in seen.manifest.get("status", {}).get("conditions", [])
                )
                (unfinished.discard if ended or seen.type == "DELETED" else unfinished.add)(seen.uid)
                most = max(most, len(unfinished))
        return most

    def event_reasons(self) -> list[str]:
        """Return the reasons of the events that were posted, in order."""
        return [seen.manifest["reason"] for seen in list(self.history) if seen.kind == "Event"]

    async def _watch(self, resource: ApiResource) -> None:
        async for event in self._upstream.watch(resource.path(self._namespace), {}):
            manifest = event["object"]
            metadata = manifest["metadata"]
            self.history.append(
                Seen(event["type"], resource.kind, metadata["name"], metadata["uid"], manifest)
            )
