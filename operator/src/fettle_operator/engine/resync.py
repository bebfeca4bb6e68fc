"""The safety net: list everything now and then, and give every object a loop and every ghost a look.

Watches lose events: in a gap, after a 410, with a lost reply. Nothing may depend on them (docs/adr/0003).
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fettle_operator.cluster.port import Cluster
from fettle_operator.engine.backoff import jittered
from fettle_operator.engine.loops import Loops
from fettle_operator.errors import ClusterError
from fettle_operator.metrics import Metrics
from fettle_operator.resources import ApiResource, Manifest, ObjectRef, ref_of

__all__ = ["Listener", "Resync"]

Listener = Callable[[ApiResource, Sequence[Manifest]], Iterable[ObjectRef]]
"""Told of each complete list of a kind, over all namespaces that are watched, of whose status only the phase is left;
says whom that is news for."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Seen:
    """What is kept of a listed object until everything has been listed."""

    version: str
    uid: str


class Resync:
    """Lists the kinds that have a controller."""

    def __init__(  # noqa: PLR0913, PLR0917 - assembled once, in the wiring
        self,
        resources: Sequence[ApiResource],
        namespaces: Sequence[str],
        cluster: Cluster,
        loops: Loops,
        listener: Listener,
        metrics: Metrics,
    ) -> None:
        self._resources = resources
        self._scopes: tuple[str | None, ...] = tuple(namespaces) or (None,)
        self._cluster = cluster
        self._loops = loops
        self._listener = listener
        self._metrics = metrics

    async def run_forever(self, every_s: float, retry_s: float, chance: random.Random) -> None:
        """List again and again; a failure is retried sooner and is no reason to stop."""
        pause_s = every_s
        while True:
            await asyncio.sleep(jittered(pause_s, chance))
            try:
                await self.run()
                pause_s = every_s
            except ClusterError as error:
                logger.warning("resync: %s", error)
                pause_s = min(retry_s, every_s)

    async def run(self) -> None:
        """List every kind once, and only then wake anybody.

        A pass that began between two lists would take what the second one tells for absent, and write so.
        """
        present: dict[ApiResource, dict[ObjectRef, _Seen]] = {}
        concerned: list[ObjectRef] = []
        for resource in self._resources:
            listed = [
                _essence(each) for scope in self._scopes async for each in self._cluster.scan(resource, scope)
            ]
            concerned += self._listener(resource, listed)
            present[resource] = {ref_of(resource, each): _seen(each) for each in listed}
        for resource, objects in present.items():
            self._compare(resource, objects)
        for ref in concerned:
            self._loops.wake(ref)
        self._metrics.last_resync.set(time.time())

    def _compare(self, resource: ApiResource, present: Mapping[ObjectRef, _Seen]) -> None:
        """Start loops for objects that have none; wake those whose object is not there: they will see and end.

        Loops whose object is there are left alone: each has its own timer.
        """
        known = self._loops.refs(resource)
        for ref, seen in present.items():
            if ref not in known:
                self._loops.wake(ref, seen.version, seen.uid)
        for ghost in known - present.keys():
            self._loops.wake(ghost)


def _seen(manifest: Manifest) -> _Seen:
    metadata = manifest["metadata"]
    return _Seen(metadata["resourceVersion"], metadata["uid"])


def _essence(manifest: Manifest) -> Manifest:
    """Return what is kept until all have been listed: a thousand objects as they are would be tens of megabytes."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
    phase = (manifest.get("status") or {}).get("phase")
    return {"metadata": metadata, "spec": manifest.get("spec"), "status": {"phase": phase}}
