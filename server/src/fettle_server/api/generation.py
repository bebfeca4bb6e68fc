"""All answers to one request, generated side by side and read as one stream."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

from fettle_server.engine.types import GenerationFailedError
from fettle_server.layer.asgi import ClientGone

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from types import TracebackType
    from typing import Any

    from fettle_server.api.port import ServingEngine
    from fettle_server.engine.types import Chunk, Sampling
    from fettle_server.layer.asgi import Receive
    from fettle_server.layer.facts import RequestFacts

__all__ = ["Answers", "Job", "Piece", "unless_gone"]

_Result = TypeVar("_Result")


class Job(NamedTuple):
    """One answer that is to be generated."""

    prompt: Sequence[int]
    sampling: Sampling


@dataclass(frozen=True, slots=True)
class Piece:
    """A chunk of one of the answers."""

    index: int
    chunk: Chunk


class Answers:
    """The answers to one request. Leaving it ends what is still being generated."""

    def __init__(
        self, engine: ServingEngine, revision: str, jobs: Sequence[Job], facts: RequestFacts
    ) -> None:
        self.facts = facts
        self.count = len(jobs)
        self._engine = engine
        self._revision = revision
        self._jobs = jobs
        self._open = len(jobs)
        self._pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [
            asyncio.create_task(self._generate(index, job)) for index, job in enumerate(self._jobs)
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def complete(self) -> bool:
        """Whether every answer has been read to its end."""
        return self._open == 0

    async def next(self) -> Piece:
        """Return what comes next of any answer; raise what ended one of them too early."""
        piece = await self._pieces.get()
        if isinstance(piece, Exception):
            raise piece
        if piece.chunk.finish:
            self._open -= 1
        return piece

    async def _generate(self, index: int, job: Job) -> None:
        try:
            await self._run(index, job)
        except Exception as error:  # noqa: BLE001 - whoever reads the answers has to know
            self._pieces.put_nowait(error)

    async def _run(self, index: int, job: Job) -> None:
        chunks = self._engine.generate(self._revision, job.prompt, job.sampling, priority=self.facts.priority)
        async for chunk in chunks:
            self.facts.said(chunk.text, tokens=len(chunk.tokens), choice=index)
            if chunk.finish:
                self.facts.finished(chunk.finish, choice=index)
            self._pieces.put_nowait(Piece(index, chunk))
            if chunk.finish:
                return
        raise GenerationFailedError


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, _Result]) -> _Result:
    """Return what the work returns; end it as soon as the client has gone."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
