"""A running engine on a tiny model, and what tests ask of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from fettle_server.engine.engine import Engine, EngineSettings
from fettle_server.engine.types import AdapterSpec, Finish, Sampling, Token


class Said(NamedTuple):
    """A whole answer."""

    text: str
    tokens: tuple[Token, ...]
    finish: Finish | None

    @property
    def ids(self) -> list[int]:
        return [token.id for token in self.tokens]


def greedy(max_tokens: int = 16, **more: Any) -> Sampling:
    return Sampling(max_tokens, temperature=0, **more)


async def say(engine: Engine, revision: str, prompt: Sequence[int], sampling: Sampling, **more: Any) -> Said:
    """Read an answer to its end."""
    chunks = [chunk async for chunk in engine.generate(revision, prompt, sampling, **more)]
    tokens = tuple(token for chunk in chunks for token in chunk.tokens)
    return Said("".join(chunk.text for chunk in chunks), tokens, chunks[-1].finish)


@asynccontextmanager
async def running(base: Path, root: Path | None = None, **settings: Any) -> AsyncIterator[Engine]:
    """Start an engine and stop it afterwards."""
    engine = Engine(EngineSettings(base, root or base, threads=1, **settings))
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop(0)


async def until(holds: Callable[[], bool], deadline_s: float = 30) -> None:
    """Wait for something that the engine's own thread brings about."""
    end = time.monotonic() + deadline_s
    while not holds():
        assert time.monotonic() < end, "it did not come about in time"
        await asyncio.sleep(0.005)


async def serve(engine: Engine, *wanted: AdapterSpec) -> None:
    """Ask for adapters and wait until each is ready or refused."""
    await engine.apply(wanted)
    await until(lambda: engine.ready)
