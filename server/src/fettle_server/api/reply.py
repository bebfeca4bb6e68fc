"""What every kind of answer has: how it looks while it comes, and as a whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fettle_server.engine.types import Chunk, Finish, Token

__all__ = ["Answer", "Head", "StreamedReply", "WholeReply", "usage"]


@dataclass(frozen=True, slots=True)
class Head:
    """What all parts of one reply carry."""

    id: str
    created: int
    """Seconds since 1970."""
    model: str
    """As the client called it."""
    fingerprint: str
    """Names the base and the adapter that answered."""

    def fields(self, kind: str) -> dict[str, Any]:
        """Return the fields that begin a document."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.fingerprint,
        }


@dataclass(slots=True)
class Answer:
    """One of the answers to a request, as far as it has come."""

    parts: list[str] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)
    finish: Finish | None = None

    def add(self, chunk: Chunk) -> None:
        """Take what has come."""
        self.parts.append(chunk.text)
        self.tokens.extend(chunk.tokens)
        self.finish = chunk.finish

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(self.parts)


class WholeReply(Protocol):
    """One kind of reply."""

    def whole(self, answers: Sequence[Answer], tokens_in: int, tokens_out: int) -> dict[str, Any]:
        """Return everything at once."""


class StreamedReply(Protocol):
    """One kind of reply while it comes; `index` is the number of the answer."""

    def pieces(self, index: int, chunk: Chunk) -> list[dict[str, Any]]:
        """Return what a stream says for a chunk."""

    def ending(self, tokens_in: int, tokens_out: int) -> dict[str, Any] | None:
        """Return what a stream says when all answers are complete."""


def usage(tokens_in: int, tokens_out: int) -> dict[str, int]:
    """Return what was read and written, in tokens."""
    return {
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "total_tokens": tokens_in + tokens_out,
    }
