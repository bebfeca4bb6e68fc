"""What keeps attempts from running, found out for all who wait; a thousand that wait must cost little."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from fettle_operator.cluster.port import Cluster
from fettle_operator.jobs import Attempt, is_waiting
from fettle_operator.owned import LOOK_S, age_s
from fettle_operator.pods import TELLING_EVENTS, Obstacle, obstacle_of, refusal_of
from fettle_operator.resources import EVENTS, Manifest

__all__ = ["Lookout"]

_AT_LEAST_EVERY_S = 60.0
"""Causes that no watch of ours tells of (a claim, an event) are looked for: often at first, then less so."""
_LOOKS_PER_SECOND = 50.0
"""What all who wait may look together."""
_FRESH = timedelta(seconds=2)
_FORGOTTEN_AFTER = timedelta(seconds=2 * _AT_LEAST_EVERY_S)


@dataclass
class _Board:
    """The events of a namespace that tell why something does not run, by the object that they are about."""

    read_at: datetime | None = None
    events: dict[str, list[Manifest]] = field(default_factory=dict)
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)


class Lookout:
    """Looks for everybody: the API server searches all events of a namespace for each question, so one is asked for all."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._boards: defaultdict[str, _Board] = defaultdict(_Board)
        self._waiting: dict[str, datetime] = {}
        self._counted_at: datetime | None = None

    async def obstacle_of(self, attempt: Attempt, now: datetime) -> Obstacle | None:
        """Return what the attempt waits for; events are read only when no pod tells by itself."""
        for pod in attempt.pods:
            if known := obstacle_of(pod):
                return known
        pending = next((pod for pod in attempt.pods if is_waiting(pod)), None)
        if (attempt.pods and pending is None) or age_s(pending or attempt.job, now) < LOOK_S:
            return None
        regarding = (pending or attempt.job)["metadata"]
        events = await self._about(attempt.job["metadata"]["namespace"], regarding["uid"], now)
        return obstacle_of(pending, events) if pending else refusal_of(events)

    def again_in_s(self, waiting: Manifest, now: datetime) -> float:
        """Return the pause before the next look at something that waits."""
        self._waiting[waiting["metadata"]["uid"]] = now
        crowded_s = self._count(now) / _LOOKS_PER_SECOND
        return max(min(max(LOOK_S, age_s(waiting, now) / 2), _AT_LEAST_EVERY_S), crowded_s)

    def _count(self, now: datetime) -> int:
        if self._counted_at is None or now - self._counted_at > _FORGOTTEN_AFTER / 2:
            self._counted_at = now
            self._waiting = {
                uid: asked for uid, asked in self._waiting.items() if now - asked < _FORGOTTEN_AFTER
            }
        return len(self._waiting)

    async def _about(self, namespace: str, uid: str, now: datetime) -> list[Manifest]:
        board = self._boards[namespace]
        async with board.reading:
            if board.read_at is None or now - board.read_at > _FRESH:
                found = await self._cluster.list(EVENTS, namespace, fields={"type": "Warning"})
                board.events = _by_object(found)
                board.read_at = now
        return board.events.get(uid, [])


def _by_object(events: list[Manifest]) -> dict[str, list[Manifest]]:
    telling: defaultdict[str, list[Manifest]] = defaultdict(list)
    for event in events:
        if event.get("reason") in TELLING_EVENTS:
            telling[event.get("involvedObject", {}).get("uid", "")].append(event)
    return dict(telling)
