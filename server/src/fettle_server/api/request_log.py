"""One line of log for each request, and an id that client, router and log agree on. Never a word of a prompt."""

from __future__ import annotations

import logging
import re
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from fettle_server.layer.asgi import header
from fettle_server.layer.facts import facts_of

if TYPE_CHECKING:
    from fettle_server.layer.asgi import App, Message, Receive, Scope, Send
    from fettle_server.layer.facts import RequestFacts

__all__ = ["RequestLog"]

_log: Final = logging.getLogger("fettle_server.requests")
_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by machines: logged only when they fail."""
_LONGEST_PATH: Final = 200


class RequestLog:
    """An ASGI app around another one."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and tell what became of it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        line = _Line(scope, receive, send)
        try:
            await self._app(scope, line.receive, line.send)
        finally:
            line.write()


class _Line:
    """What is told of one request."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = header(scope, b"x-request-id")
        self._id = given if _ID.fullmatch(given) else secrets.token_hex(16)
        self._scope = scope
        self._receive = receive
        self._send = send
        self._began_at = time.monotonic()
        self._status = 0
        self._complete = False
        self._client_gone = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._complete:
            self._client_gone = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            message["headers"] = [*message.get("headers", ()), (b"x-request-id", self._id.encode())]
        elif not message.get("more_body", False):
            self._complete = True
        await self._send(message)

    def write(self) -> None:
        if self._scope["path"] in _QUIET and self._status < 400:
            return
        told: dict[str, Any] = {
            "request_id": self._id,
            "method": self._scope["method"],
            "path": self._scope["path"][:_LONGEST_PATH],
            "status": self._status,
            "seconds": round(time.monotonic() - self._began_at, 4),
            **_answer(facts_of(self._scope), self._began_at),
        }
        if self._client_gone:
            told["client_gone"] = True
        _log.info("request", extra={"told": told})


def _answer(facts: RequestFacts, began_at: float) -> dict[str, Any]:
    if not facts.revision:
        return {}
    told: dict[str, Any] = {"revision": facts.revision, "route": facts.route}
    if facts.role:
        told["role"] = facts.role
    if facts.response_id:
        told["response_id"] = facts.response_id
    if facts.failed:
        told["failed"] = True
    if facts.first_token_at is not None:
        told["first_token_seconds"] = round(facts.first_token_at - began_at, 4)
    return {
        **told,
        "stream": facts.stream,
        "tokens_in": facts.tokens_in,
        "tokens_out": facts.tokens_out,
        "finish": [choice.finish for _, choice in sorted(facts.choices.items())],
    }
