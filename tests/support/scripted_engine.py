"""An engine whose answers a test writes: for faults and moments that no real model has at will.

A text is its characters: each is a token, and its number is the token's id.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fettle_server.engine.types import (
    AdapterSpec,
    AdapterState,
    Alternative,
    Chunk,
    EngineError,
    Finish,
    Load,
    Priority,
    Sampling,
    Token,
    UnknownRevisionError,
    WrongMessagesError,
)

Step = Chunk | Exception | asyncio.Event
"""What comes next: a piece of the answer, what ends it, or what has to happen first."""


def piece(text: str, finish: Finish | None = None, logprob: float | None = None) -> Chunk:
    """Return a chunk of as many tokens as it has characters."""
    other = Alternative(0, "\0", b"\0", -9.5)
    tokens = tuple(
        Token(ord(it), it, it.encode(), logprob, () if logprob is None else (other,)) for it in text
    )
    return Chunk(text, tokens, finish)


def _told(chunk: Chunk) -> Chunk:
    """Return a chunk whose every token has a log-probability, as an engine that is asked for them gives."""
    told = (token if token.logprob is not None else token._replace(logprob=-0.5) for token in chunk.tokens)
    return replace(chunk, tokens=tuple(told))


def answer(text: str) -> list[Step]:
    """Return an answer, a character at a time."""
    return [*(piece(it) for it in text), piece("", "stop")]


class CharacterText:
    """Writes text as characters; refuses a conversation in which the word `refuse` stands."""

    def chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        text = "".join(f"<{message['role']}>{message['content']}" for message in messages)
        if "refuse" in text:
            raise WrongMessagesError("The chat template refuses the conversation: refuse.")
        del tools
        return self.encode(f"{text}<assistant>")

    def encode(self, text: str) -> list[int]:
        return list(map(ord, text))


class ScriptedEngine:
    """Gives one scripted answer after the other, the last one for ever."""

    def __init__(self, *answers: Iterable[Step], adapters: Sequence[AdapterState] = ()) -> None:
        self.healthy = True
        self.ready = True
        self.asked: list[tuple[str, str, Sampling]] = []
        """Revision, prompt and sampling of every answer that was asked for."""
        self.wanted: list[AdapterSpec] = []
        self.running = 0
        self._answers = [list(steps) for steps in answers] or [answer("fine")]
        self._adapters = list(adapters)

    def text_of(self, revision: str) -> CharacterText:
        known = {"base", *(adapter.revision for adapter in self._adapters)}
        if revision not in known:
            raise UnknownRevisionError(revision)
        return CharacterText()

    async def generate(
        self, revision: str, prompt: Sequence[int], sampling: Sampling, *, priority: Priority = "user"
    ) -> AsyncGenerator[Chunk, None]:
        del priority
        if max(prompt) > sys.maxunicode:
            raise EngineError(
                f"The prompt holds a token id that the model has not: they go to {sys.maxunicode}."
            )
        self.asked.append((revision, "".join(map(chr, prompt)), sampling))
        steps = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        self.running += 1
        try:
            for step in steps:
                match step:
                    case asyncio.Event():
                        await step.wait()
                    case Chunk():
                        yield step if sampling.logprobs is None else _told(step)
                    case _:
                        raise step
        finally:
            self.running -= 1

    async def apply(self, wanted: Sequence[AdapterSpec]) -> list[AdapterState]:
        self.wanted = list(wanted)
        self._adapters = [AdapterState(it.revision, it.digest, "Loading") for it in wanted]
        return self._adapters

    def adapters(self) -> list[AdapterState]:
        return self._adapters

    def load(self) -> Load:
        return Load(self.running, 0, 0.0, 32, 128)


__all__ = ["CharacterText", "EngineError", "ScriptedEngine", "Step", "answer", "piece"]
