"""The requests that wait for a place in the batch, and the count of all that the engine has taken on.

Shared by the clients' tasks and the thread of the steps; everything is done under one lock, which is never held for
longer than a few dictionary operations.
"""

from __future__ import annotations

import math
import threading
import time
from collections import Counter, deque
from typing import TYPE_CHECKING, Final

from fettle_server.engine.types import DroppedError, QueueFullError, ShuttingDownError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fettle_server.engine.request import Request

_REMEMBERED: Final = 64
"""Ends of requests from which the rate of work is told."""
_LONGEST_RETRY_S: Final = 60


class Waiting:
    """Two lines: users', and shadow work that is let in when no user waits."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.lock = threading.RLock()
        self.arrived = threading.Condition(self.lock)
        self.running: Counter[str] = Counter()
        self._most = most
        self._clock = clock
        self._users: deque[Request] = deque()
        self._shadows: deque[Request] = deque()
        self._ends: deque[float] = deque(maxlen=_REMEMBERED)
        self._number = 0
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._users) + len(self._shadows)

    def add(self, request: Request) -> None:
        """Let a request wait, or raise why it may not; shadow work makes room for a user's request."""
        with self.lock:
            if self._is_closed:
                raise ShuttingDownError
            if len(self) >= self._most:
                self._make_room(request)
            self._number += 1
            request.number = self._number
            (self._users if request.priority == "user" else self._shadows).append(request)
            self.arrived.notify()

    def put_back(self, request: Request) -> None:
        """Let a request that has lost its place be the next one."""
        with self.lock:
            self.running[request.voice.revision] -= 1
            (self._users if request.priority == "user" else self._shadows).appendleft(request)

    def next(self) -> Request | None:
        """Return who is to be let in next, without letting it in; those who have gone are forgotten."""
        with self.lock:
            for line in (self._users, self._shadows):
                while line and line[0].is_cancelled:
                    line.popleft()
                if line:
                    return line[0]
        return None

    def let_in(self, request: Request) -> None:
        """Take the next one out of its line."""
        with self.lock:
            (self._users if request.priority == "user" else self._shadows).remove(request)
            self.running[request.voice.revision] += 1

    def ended(self, request: Request, *, is_finished: bool) -> None:
        """Count a request that has left the batch; only finished ones tell how fast the engine is."""
        with self.lock:
            self.running[request.voice.revision] -= 1
            if is_finished:
                self._ends.append(self._clock())

    def close(self) -> None:
        """Take no more requests."""
        with self.lock:
            self._is_closed = True
            self.arrived.notify()

    def all_out(self) -> list[Request]:
        """Empty the lines and return who waited."""
        with self.lock:
            everybody = [*self._users, *self._shadows]
            self._users.clear()
            self._shadows.clear()
            return everybody

    def in_flight(self, revision: str) -> int:
        """Return how many requests for a revision wait or run."""
        with self.lock:
            return self.running[revision] + self.waiting_by_revision()[revision]

    def waiting_by_revision(self) -> Counter[str]:
        """Return how many wait for each revision."""
        with self.lock:
            lines = (*self._users, *self._shadows)
            return Counter(request.voice.revision for request in lines if not request.is_cancelled)

    def retry_after_s(self) -> int:
        """Return in how many seconds the line will have moved by half, going by the last requests that ended."""
        if len(self._ends) < 2:
            return 1
        rate = (len(self._ends) - 1) / max(self._ends[-1] - self._ends[0], 1e-6)
        return min(_LONGEST_RETRY_S, max(1, math.ceil(len(self) / 2 / rate)))

    def _make_room(self, request: Request) -> None:
        self._forget_gone()
        if len(self) < self._most:
            return
        if request.priority == "shadow":
            raise DroppedError
        if not self._shadows:
            raise QueueFullError(self.retry_after_s())
        last = self._shadows.pop()
        last.channel.loop.call_soon_threadsafe(last.channel.put, DroppedError())

    def _forget_gone(self) -> None:
        for line in (self._users, self._shadows):
            present = [request for request in line if not request.is_cancelled]
            line.clear()
            line.extend(present)
