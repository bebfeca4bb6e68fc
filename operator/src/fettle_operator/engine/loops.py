"""One loop per object: it runs a pass, then sleeps until an event or its timer wakes it."""

import asyncio
import contextvars
import random
from collections.abc import Mapping
from dataclasses import dataclass, field

from fettle_operator.engine.backoff import jittered, pause_after
from fettle_operator.engine.frame import Outcome, Pass
from fettle_operator.engine.turns import Turns
from fettle_operator.metrics import Metrics
from fettle_operator.resources import ApiResource, ObjectRef
from fettle_operator.settings import Backoff

__all__ = ["Loops", "Pace"]

_PARALLEL_PASSES = 8
"""More do not bring more: a pass costs the operator a third of the time that it takes."""
_STALLED_AFTER_S = 60.0


@dataclass(frozen=True)
class Pace:
    """How fast loops turn."""

    resync_s: float
    """A pass comes at least this often."""
    backoff: Backoff
    settle_s: float = 0.1
    """From an event to the pass: one change often brings several events, and one pass sees them all."""


@dataclass(eq=False)
class _Loop:
    """The state that a loop keeps between passes. None of it is truth; losing it costs one pass."""

    task: asyncio.Task[None] | None = None
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    busy: bool = False
    uids: set[str] = field(default_factory=set)
    """Of the object, and of the one that takes its place while the loop still runs."""
    is_new: bool = True
    """Whether no pass has looked at the object yet."""
    seen_version: str | None = None
    failures: int = 0
    news_since: float | None = None
    """When (loop clock) the oldest news arrived that no successful pass has seen."""


class Loops:
    """All loops of the operator."""

    def __init__(
        self,
        passes: Mapping[ApiResource, Pass],
        pace: Pace,
        metrics: Metrics,
        chance: random.Random,
    ) -> None:
        self._passes = passes
        self._pace = pace
        self._metrics = metrics
        self._chance = chance
        self._loops: dict[ObjectRef, _Loop] = {}
        self._by_uid: dict[str, ObjectRef] = {}
        self._turns = Turns(_PARALLEL_PASSES)
        self._waiting = 0
        self._stopping = False

    def wake(self, ref: ObjectRef, resource_version: str | None = None, uid: str | None = None) -> None:
        """Look at the object soon; version and UID are what the waker saw.

        By the version our own echo can be told. With the UID the object's children can wake it before its first pass
        is over: a child may have ended by then, and nothing else would tell of it.
        """
        if self._stopping:
            return
        entry = self._loops.get(ref)
        if entry is None:
            entry = self._loops[ref] = _Loop()
            # In the waker's context the loop would keep for life what kopf holds of the event that began it.
            entry.task = asyncio.create_task(
                self._look_after(ref, entry), name=f"loop of {ref}", context=contextvars.Context()
            )
        if uid is not None:
            self._know(ref, entry, uid)
        if resource_version is not None and resource_version == entry.seen_version:
            return
        if entry.news_since is None:
            entry.news_since = asyncio.get_running_loop().time()
        entry.wake.set()

    def wake_uid(self, uid: str) -> None:
        """Look at the object with this UID, if it is one of ours; otherwise the resync will tell."""
        if ref := self._by_uid.get(uid):
            self.wake(ref)

    def refs(self, resource: ApiResource) -> frozenset[ObjectRef]:
        """Return the objects of a kind that have a loop."""
        return frozenset(ref for ref in self._loops if ref.resource == resource)

    def measure(self) -> None:
        """Bring the gauges up to date."""
        now = asyncio.get_running_loop().time()
        self._metrics.queue_depth.set(self._waiting)
        for resource in self._passes:
            entries = [entry for ref, entry in self._loops.items() if ref.resource == resource]
            stalled = sum(
                entry.news_since is not None and now - entry.news_since > _STALLED_AFTER_S
                for entry in entries
            )
            self._metrics.objects.labels(resource.kind).set(len(entries))
            self._metrics.stalled_objects.labels(resource.kind).set(stalled)

    async def stop(self, grace_s: float) -> None:
        """End all loops; a pass that is under way may finish within the grace."""
        self._stopping = True
        tasks = {entry.task: entry for entry in self._loops.values() if entry.task is not None}
        for task, entry in tasks.items():
            if not entry.busy:
                task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=grace_s)
            for task in late:
                task.cancel()

    async def _look_after(self, ref: ObjectRef, entry: _Loop) -> None:
        """Pass after pass until the object is gone."""
        while not self._stopping:
            entry.wake.clear()
            news_since, entry.news_since = entry.news_since, None
            known = frozenset(entry.uids)
            outcome = await self._pass_in_turn(ref, entry)
            if outcome.gone and not entry.wake.is_set():
                self._forget(ref, entry)
                return
            self._remember(ref, entry, outcome, known)
            if outcome.failed:
                entry.news_since = news_since
                await self._back_off(entry, outcome)
            else:
                resync_s = jittered(self._pace.resync_s, self._chance)
                await self._sleep(entry, min(resync_s, outcome.again_in_s or resync_s))
                await asyncio.sleep(self._pace.settle_s)

    async def _pass_in_turn(self, ref: ObjectRef, entry: _Loop) -> Outcome:
        self._waiting += 1
        try:
            await self._turns.take(is_new=entry.is_new)
        finally:
            self._waiting -= 1
        entry.busy = True
        try:
            return await self._passes[ref.resource].run(ref, entry.failures)
        finally:
            entry.busy = False
            self._turns.give_back()

    async def _back_off(self, entry: _Loop, outcome: Outcome) -> None:
        """Wait longer with each failure. Events shorten the wait, but never below the first pause.

        A failing object that is woken often must not become a hot loop.
        """
        pause_s = pause_after(outcome.error, entry.failures, self._pace.backoff, self._chance)
        floor_s = min(pause_s, self._pace.backoff.initial_seconds)
        await asyncio.sleep(floor_s)
        await self._sleep(entry, pause_s - floor_s)

    async def _sleep(self, entry: _Loop, seconds: float) -> None:
        timer = asyncio.get_running_loop().call_later(seconds, entry.wake.set)
        try:
            await entry.wake.wait()
        finally:
            timer.cancel()

    def _remember(self, ref: ObjectRef, entry: _Loop, outcome: Outcome, known: frozenset[str]) -> None:
        """Keep what the next pass needs; of the UIDs known before this one, only the one that it has met."""
        entry.failures = entry.failures + 1 if outcome.failed else 0
        entry.seen_version = outcome.resource_version
        entry.is_new = False
        if outcome.uid is not None:
            self._forget_uids(entry, known - {outcome.uid})
            self._know(ref, entry, outcome.uid)

    def _know(self, ref: ObjectRef, entry: _Loop, uid: str) -> None:
        entry.uids.add(uid)
        self._by_uid[uid] = ref

    def _forget(self, ref: ObjectRef, entry: _Loop) -> None:
        self._loops.pop(ref, None)
        self._forget_uids(entry, frozenset(entry.uids))

    def _forget_uids(self, entry: _Loop, uids: frozenset[str]) -> None:
        entry.uids -= uids
        for uid in uids:
            self._by_uid.pop(uid, None)
