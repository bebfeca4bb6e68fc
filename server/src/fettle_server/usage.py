"""Tokens of each client in the last minute, for the routers in front: what a limit of tokens is held against.

A router cannot count them: in a stream they are known only when it has ended, and several routers share a pod. Here they
are counted while they are made. `GET /usage` tells them by their age, so that whoever asks needs no memory of its own:

    {"windowSeconds": 60, "clients": {"team-a": [[0, 12], [3, 480]]}}

means 12 tokens within the last second, and 480 three seconds ago. Nothing is told of a client without tokens.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from fettle_server.layer.facts import RequestFacts

__all__ = ["WINDOW_S", "ClientUsage"]

WINDOW_S: Final = 60
_MOST_CLIENTS: Final = 8_192
"""Twice what a routing table holds; who asks a pod behind the router's back can make up names, but no more than this."""

_LONGEST_NAME: Final = 64

_Second = list[int]
"""A second of the clock, and the tokens that were noted in it."""


class ClientUsage:
    """The tokens of prompts that were answered and of their answers, by client and second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._running: dict[int, tuple[RequestFacts, int]] = {}
        self._seconds: dict[str, deque[_Second]] = {}
        self._forgotten_at = 0

    def began(self, facts: RequestFacts) -> None:
        """Count a request from now on; a copy that no client asked for is nobody's."""
        if 0 < len(facts.client) <= _LONGEST_NAME and facts.route != "mirror":
            self._running[id(facts)] = (facts, 0)

    def ended(self, facts: RequestFacts) -> None:
        """Count what has come since the last look."""
        if id(facts) in self._running:
            self._note(facts)
            del self._running[id(facts)]

    def document(self) -> dict[str, Any]:
        """Return the tokens of the last minute, those of running answers included."""
        for facts, _ in list(self._running.values()):
            self._note(facts)
        now = int(self._clock())
        self._forget(now)
        clients = {
            client: [[now - second, tokens] for second, tokens in reversed(seconds)]
            for client, seconds in self._seconds.items()
        }
        return {"windowSeconds": WINDOW_S, "clients": clients}

    def _note(self, facts: RequestFacts) -> None:
        noted = self._running[id(facts)][1]
        # A prompt that was refused, or still waits, has cost nothing yet.
        tokens = facts.tokens_in + facts.tokens_out if facts.tokens_out else 0
        if tokens <= noted:
            return
        self._running[id(facts)] = (facts, tokens)
        now = int(self._clock())
        seconds = self._of(facts.client, now)
        if seconds and seconds[-1][0] == now:
            seconds[-1][1] += tokens - noted
        else:
            seconds.append([now, tokens - noted])

    def _of(self, client: str, now: int) -> deque[_Second]:
        if client not in self._seconds and len(self._seconds) >= _MOST_CLIENTS:
            self._forget(now)
            if len(self._seconds) >= _MOST_CLIENTS:
                return deque()
        # Its own seconds never grow beyond a minute, even when nobody asks for them.
        return self._seconds.setdefault(client, deque(maxlen=WINDOW_S))

    def _forget(self, now: int) -> None:
        """Drop what is older than the window, once a second at most, however many names are made up."""
        if now == self._forgotten_at:
            return
        self._forgotten_at = now
        for client, seconds in list(self._seconds.items()):
            while seconds and now - seconds[0][0] >= WINDOW_S:
                seconds.popleft()
            if not seconds:
                del self._seconds[client]
