"""What the API server's answers mean: the one translation from HTTP to the errors of the domain."""

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fettle_operator.errors import (
    AlreadyExists,
    ClusterError,
    Conflict,
    Forbidden,
    NotFound,
    Refused,
    Unavailable,
)

__all__ = ["error_of", "message_of"]

_REPLY_SHOWN_MAX = 500


def error_of(request: str, status: int, body: bytes, headers: Mapping[str, str]) -> ClusterError:
    """Return the error that a reply of 400 or more stands for."""
    reply = _status_object(body)
    text = f"{request}: {message_of(reply, body) or HTTPStatus(status).phrase}"
    match status:
        case 404:
            return NotFound(text)
        case 409:
            return AlreadyExists(text) if reply.get("reason") == "AlreadyExists" else Conflict(text)
        case 401 | 403:
            return Forbidden(text)
        # 410: a list that continues from a version the server has forgotten; the next pass starts afresh.
        case 408 | 410 | 429 | 500 | 502 | 503 | 504:
            return Unavailable(text, retry_after_s=_seconds(headers.get("Retry-After")))
        case _:
            return Refused(text)


def message_of(reply: Mapping[str, Any], body: bytes) -> str:
    """Return the sentence of a reply, whether it is the server's own Status or a proxy's text."""
    message = reply.get("message")
    return str(message) if message else body[:_REPLY_SHOWN_MAX].decode(errors="replace").strip()


def _status_object(body: bytes) -> Mapping[str, Any]:
    try:
        reply = json.loads(body)
    except ValueError:
        return {}
    return reply if isinstance(reply, dict) else {}


def _seconds(text: str | None) -> float | None:
    return float(text) if text and text.isdigit() else None
