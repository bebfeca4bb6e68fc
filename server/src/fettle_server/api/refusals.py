"""What an engine cannot do, as clients are told."""

from __future__ import annotations

import logging
from typing import Final

from fettle_server.engine.types import (
    DroppedError,
    EngineError,
    GenerationFailedError,
    PromptTooLongError,
    QueueFullError,
    RevisionNotReadyError,
    ShuttingDownError,
    UnknownRevisionError,
    WrongMessagesError,
)
from fettle_server.layer.asgi import Refused

__all__ = ["refused"]

_log: Final = logging.getLogger(__name__)
_PROMPTS: Final = {
    "/v1/chat/completions": "messages",
    "/v1/completions": "prompt",
    "/score": "input_data.input_string",
}
"""The parameter that holds what the model reads."""

_REFUSALS: Final[dict[type[EngineError], tuple[int, str]]] = {
    QueueFullError: (429, "queue_full"),
    UnknownRevisionError: (404, "model_not_found"),
    RevisionNotReadyError: (503, "revision_not_ready"),
    ShuttingDownError: (503, "shutting_down"),
    DroppedError: (503, "shadow_dropped"),
    PromptTooLongError: (400, "context_length_exceeded"),
    WrongMessagesError: (400, "invalid_value"),
    GenerationFailedError: (500, "generation_failed"),
}
_LATER_S: Final = 5
"""When to ask again for what becomes ready soon, here or on another pod."""


def refused(error: Exception, path: str) -> Refused:
    """Return what the client of a path is told."""
    if isinstance(error, Refused):
        return error
    if not isinstance(error, EngineError):
        _log.error("an answer failed", exc_info=error)
        return Refused(500, "internal_error", "The server failed to answer. Its log says why.")
    status, code = _REFUSALS.get(type(error), (400, "invalid_value"))
    return Refused(
        status,
        code,
        str(error),
        _PROMPTS.get(path) if status == 400 else None,
        error.retry_after_s if isinstance(error, QueueFullError) else _LATER_S if status == 503 else None,
    )
