"""The words of ASGI, and the little that every part of the layer needs of it."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "App",
    "BodyTooLarge",
    "ClientGone",
    "Message",
    "Receive",
    "Refused",
    "Scope",
    "Send",
    "answer",
    "error_document",
    "header",
    "read_body",
    "refuse",
    "require_method",
    "respond",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_ERROR_KINDS: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}


class ClientGone(Exception):
    """The client went away before its request had arrived."""


class BodyTooLarge(Exception):
    """The body is longer than what is read of it."""


@dataclass
class Refused(Exception):
    """A request that is answered with an error."""

    status: int
    code: str
    message: str
    param: str | None = None
    """The field of the body that is wrong."""
    retry_after_s: int | None = None


def header(scope: Scope, name: bytes) -> str:
    """Return the first header of a lower-case name, or nothing."""
    for key, value in scope["headers"]:
        if key == name:
            return str(value, "latin-1")
    return ""


async def read_body(receive: Receive, limit: int) -> bytes:
    """Return the whole body, of `limit` bytes at most."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise BodyTooLarge
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def require_method(scope: Scope, *allowed: str) -> None:
    """Refuse every other method."""
    if scope["method"] not in allowed:
        raise Refused(405, "method_not_allowed", f"This path takes {' and '.join(allowed)}.")


async def respond(send: Send, work: Awaitable[bytes]) -> None:
    """Send the JSON that `work` returns, or the error that it raises for the client."""
    try:
        body = await work
    except ClientGone:
        return
    except BodyTooLarge:
        await refuse(send, Refused(413, "body_too_large", "The body is too long for this path."))
    except Refused as refused:
        await refuse(send, refused)
    else:
        await answer(send, 200, body)


async def answer(
    send: Send,
    status: int,
    body: bytes,
    content_type: str = "application/json",
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> None:
    """Send a whole answer."""
    kept = [
        (b"content-type", content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        *headers,
    ]
    await send({"type": "http.response.start", "status": status, "headers": kept})
    await send({"type": "http.response.body", "body": body})


async def refuse(send: Send, refused: Refused) -> None:
    """Send an error in OpenAI's shape."""
    later = refused.retry_after_s
    headers = [] if later is None else [(b"retry-after", str(later).encode())]
    await answer(send, refused.status, json.dumps(error_document(refused)).encode(), headers=headers)


def error_document(refused: Refused) -> dict[str, Any]:
    """Return an error in OpenAI's shape."""
    kind = _ERROR_KINDS.get(
        refused.status, "invalid_request_error" if refused.status < 500 else "server_error"
    )
    return {"error": {"message": refused.message, "type": kind, "param": refused.param, "code": refused.code}}
