"""A request's body: bounded in size, time and depth, and parsed once."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fettle_server.layer.asgi import ClientGone, Refused, header
from fettle_trainer import strict_json

if TYPE_CHECKING:
    from fettle_server.layer.asgi import Receive, Scope

__all__ = ["BodyLimits", "read_json"]

_UNSUPPORTED: Final = "The body must be JSON: Content-Type application/json, no Content-Encoding."
_DISCARDED: Final = 8
"""So many times the limit is read of a body that is too large."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """What is read of a body."""

    size: int = 1_048_576
    """Bytes."""
    time_s: float = 30.0
    """Seconds that the whole body may take."""
    depth: int = 32
    """Objects and lists inside of each other."""


async def read_json(scope: Scope, receive: Receive, limits: BodyLimits) -> dict[str, Any]:
    """Return the JSON object that is the body, or refuse the request."""
    _expect_json(scope)
    body = await _read(receive, limits)
    try:
        document = strict_json.loads(body)
        if b"\\u" in body:
            # An escape can stand for half a character, which nothing behind here could write again.
            json.dumps(document, ensure_ascii=False).encode()
    except strict_json.StrictJsonError as error:
        raise Refused(400, "invalid_json", f"The body is not JSON: {error}.") from None
    except UnicodeEncodeError:
        raise Refused(400, "invalid_json", "The body holds half of a surrogate pair.") from None
    if not isinstance(document, dict):
        raise Refused(400, "invalid_json", "The body must be a JSON object.")
    _expect_shallow(document, limits.depth)
    return document


def _expect_json(scope: Scope) -> None:
    kind = header(scope, b"content-type").partition(";")[0].strip().lower()
    if kind != "application/json" or header(scope, b"content-encoding"):
        raise Refused(415, "unsupported_media_type", _UNSUPPORTED)


async def _read(receive: Receive, limits: BodyLimits) -> bytes:
    try:
        async with asyncio.timeout(limits.time_s):
            body = await _bounded(receive, limits.size)
    except TimeoutError:
        message = f"The body did not arrive within {limits.time_s:g} s."
        raise Refused(408, "request_timeout", message) from None
    if body is None:
        raise Refused(413, "body_too_large", f"The body is above {limits.size} bytes.")
    return body


async def _bounded(receive: Receive, limit: int) -> bytes | None:
    """Return the body, or nothing if it is above the limit.

    Some more of it is read all the same: a client that is still sending when the connection is closed never sees why.
    """
    parts: list[bytes] = []
    size = 0
    more = True
    while more and size <= _DISCARDED * limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        part = message.get("body", b"")
        size += len(part)
        if size <= limit:
            parts.append(part)
        more = message.get("more_body", False)
    return b"".join(parts) if size <= limit else None


def _expect_shallow(document: dict[str, Any], depth: int) -> None:
    level: list[Any] = [document]
    for _ in range(depth):
        level = [
            child
            for item in level
            for child in (item.values() if isinstance(item, dict) else item)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    message = f"The body is nested too deeply: at most {depth} objects and lists inside of each other."
    raise Refused(400, "nested_too_deeply", message)
