"""One request on its way through the engine, and the stream that its client reads."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fettle_server.engine.text_side import TextSide
    from fettle_server.engine.types import Chunk, Priority, Sampling


@dataclass(frozen=True, slots=True)
class Voice:
    """Who answers: a revision, as the batch needs to know it."""

    revision: str
    adapter: str | None
    """The adapter's name in the model; None is the base model."""
    lane: str
    """Rows of one lane share a forward; an adapter that cannot be mixed has a lane of its own."""
    text: TextSide


@dataclass(eq=False, slots=True)
class Request:
    """What is to be answered, by whom, and where the answer goes."""

    voice: Voice
    prompt: Sequence[int]
    sampling: Sampling
    priority: Priority
    most_tokens: int
    """How long the answer may be, by the client's wish and by the room in the context."""
    channel: Channel
    number: int = 0
    """In the order of arrival."""

    @property
    def is_cancelled(self) -> bool:
        """Whether nobody reads the answer any more."""
        return self.channel.is_closed


class Channel:
    """The way of one answer from the thread of the steps to its reader's event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.is_closed = False
        """Whether nobody reads any more; set by the reader, seen at the next step."""
        self._items: deque[Chunk | Exception] = deque()
        self._arrived = asyncio.Event()

    def put(self, item: Chunk | Exception) -> None:
        """Take a chunk, or the error that ends the answer; only in the loop's own thread."""
        self._items.append(item)
        self._arrived.set()

    async def take(self) -> Chunk | Exception:
        """Return the next item."""
        while not self._items:
            self._arrived.clear()
            await self._arrived.wait()
        return self._items.popleft()


class Answer:
    """The chunks of one answer, for its reader.

    A reader that goes away closes it, be it by `aclose`, by cancellation or by letting go of it; the row is then freed
    at the next step.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._is_over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Chunk:
        if self._is_over or self._channel.is_closed:
            raise StopAsyncIteration
        try:
            item = await self._channel.take()
        except BaseException:
            self._channel.is_closed = True
            raise
        if isinstance(item, Exception):
            self._is_over = True
            raise item
        self._is_over = item.finish is not None
        return item

    async def aclose(self) -> None:
        """Say that nobody reads on."""
        self._channel.is_closed = True

    def __del__(self) -> None:
        self._channel.is_closed = True


class Delivery:
    """Answers' chunks of one step, handed to the loop's thread together: waking it once is dear enough."""

    def __init__(self) -> None:
        self._items: list[tuple[Channel, Chunk | Exception]] = []

    def add(self, channel: Channel, item: Chunk | Exception) -> None:
        """Take a chunk, or the error that ends an answer."""
        self._items.append((channel, item))

    def send(self) -> None:
        """Hand everything over."""
        items, self._items = self._items, []
        for loop in {channel.loop for channel, _ in items}:
            own = [(channel, item) for channel, item in items if channel.loop is loop]
            if not loop.is_closed():
                loop.call_soon_threadsafe(_put_all, own)


def _put_all(items: list[tuple[Channel, Chunk | Exception]]) -> None:
    for channel, item in items:
        channel.put(item)
