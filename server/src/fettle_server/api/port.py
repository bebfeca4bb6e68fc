"""What the HTTP side needs of an engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from fettle_server.engine.types import AdapterSpec, AdapterState, Chunk, Load, Priority, Sampling

__all__ = ["ServingEngine", "Text"]


class Text(Protocol):
    """How a revision writes text as tokens; it may be slow, and is asked in a thread of its own."""

    def chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """Return a conversation up to where the model begins to answer."""

    def encode(self, text: str) -> list[int]:
        """Return plain text, with what the tokenizer puts before every text."""


class ServingEngine(Protocol):
    """Generates answers; every error for a client is an EngineError."""

    @property
    def healthy(self) -> bool:
        """Whether it works, or is still about to start."""

    @property
    def ready(self) -> bool:
        """Whether the base and every wanted adapter that was not refused has generated a token."""

    def text_of(self, revision: str) -> Text:
        """Return the words of a revision that is served."""

    def generate(
        self, revision: str, prompt: Sequence[int], sampling: Sampling, *, priority: Priority = "user"
    ) -> AsyncIterator[Chunk]:
        """Begin an answer; a task that is cancelled while it reads it ends it."""

    async def start(self) -> None:
        """Load the base model; until then nothing else but `healthy` and `ready` may be asked."""

    async def stop(self, drain_s: float) -> None:
        """Refuse new work, end what runs within so many seconds, then cut it."""

    async def apply(self, wanted: Sequence[AdapterSpec]) -> list[AdapterState]:
        """Take the full list of what is to be served; loading goes on afterwards."""

    def adapters(self) -> list[AdapterState]:
        """Return where each adapter stands."""

    def load(self) -> Load:
        """Return how busy it is."""
