"""Log-probabilities in the shapes that OpenAI's two endpoints have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fettle_server.engine.types import Alternative, Token

__all__ = ["chat_logprobs", "completion_logprobs"]


def chat_logprobs(tokens: Sequence[Token]) -> dict[str, Any]:
    """Return the shape of chat completions."""
    return {
        "content": [
            {**_entry(token), "top_logprobs": [_entry(other) for other in token.alternatives]}
            for token in tokens
        ],
        "refusal": None,
    }


def completion_logprobs(tokens: Sequence[Token], offset: int) -> dict[str, Any]:
    """Return the shape of plain completions; `offset` is where in the answer the first token begins."""
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token.text)
    return {
        "tokens": [_shown(token.utf8) for token in tokens],
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [_most_likely(token) for token in tokens],
        "text_offset": offsets,
    }


def _entry(token: Token | Alternative) -> dict[str, Any]:
    return {"token": _shown(token.utf8), "logprob": token.logprob, "bytes": list(token.utf8)}


def _most_likely(token: Token) -> dict[str, float | None]:
    """Return the alternatives and the token itself, which need not be one of them."""
    return {
        **{_shown(other.utf8): other.logprob for other in token.alternatives},
        _shown(token.utf8): token.logprob,
    }


def _shown(utf8: bytes) -> str:
    """Return a token's text, its bytes escaped where they are only part of a character."""
    try:
        return utf8.decode()
    except UnicodeDecodeError:
        return utf8.decode(errors="backslashreplace")
