"""Whose pass begins next, when there are more than may run at a time."""

import asyncio
from collections import deque

__all__ = ["Turns"]

_IN_A_ROW_MAX = 9
"""So many objects that nobody has looked at yet go before one that waits for another pass."""


class Turns:
    """Slots for passes; who was never looked at goes first.

    People wait for a first word, and a burst of new objects must not wait for the lives of those that came before.
    The others still get every tenth slot.
    """

    def __init__(self, parallel: int) -> None:
        self._free = parallel
        self._new: deque[asyncio.Future[None]] = deque()
        self._known: deque[asyncio.Future[None]] = deque()
        self._in_a_row = 0

    async def take(self, *, is_new: bool) -> None:
        """Wait for a slot."""
        if self._free:
            self._free -= 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        (self._new if is_new else self._known).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()
            raise

    def give_back(self) -> None:
        """Hand the slot to whoever is next."""
        while (turn := self._next()) is not None:
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _next(self) -> asyncio.Future[None] | None:
        others_turn = self._known and self._in_a_row >= _IN_A_ROW_MAX
        if self._new and not others_turn:
            self._in_a_row += 1
            return self._new.popleft()
        self._in_a_row = 0
        return self._known.popleft() if self._known else None
