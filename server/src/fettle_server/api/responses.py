"""Replies as they go over the wire: whole, streamed as server-sent events, or refused."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from fettle_server.api.generation import unless_gone
from fettle_server.api.refusals import refused
from fettle_server.api.reply import Answer
from fettle_server.layer.asgi import ClientGone, answer, error_document

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fettle_server.api.generation import Answers, Piece
    from fettle_server.api.reply import StreamedReply, WholeReply
    from fettle_server.layer.asgi import App, Receive, Refused, Scope, Send

__all__ = ["EventStream", "json_response", "refusal", "whole_answers"]

HEARTBEAT_S: Final = 15.0
"""How long a stream may be silent: proxies take a longer silence for a dead server."""

_ALIVE: Final = b": still working\n\n"
_DONE: Final = b"data: [DONE]\n\n"
_CLOSING: Final = frozenset({408, 413})
"""After these the rest of the body is not read, so the connection cannot be used again."""


def json_response(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> App:
    """Return a JSON document as an answer."""
    body = _json(document)
    more = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]

    async def respond(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, status, body, headers=more)

    return respond


def refusal(error: Refused, headers: Mapping[str, str] | None = None) -> App:
    """Return an error in OpenAI's shape as an answer."""
    more = dict(headers or {})
    if error.retry_after_s is not None:
        more["retry-after"] = str(error.retry_after_s)
    if error.status in _CLOSING:
        more["connection"] = "close"
    return json_response(error_document(error), error.status, more)


async def whole_answers(
    receive: Receive, answers: Answers, reply: WholeReply, headers: Mapping[str, str]
) -> App:
    """Return the reply when all of it has been generated."""
    complete = await unless_gone(receive, _collected(answers))
    facts = answers.facts
    return json_response(reply.whole(complete, facts.tokens_in, facts.tokens_out), headers=headers)


async def _collected(answers: Answers) -> list[Answer]:
    complete = [Answer() for _ in range(answers.count)]
    async with answers:
        while not answers.complete:
            piece = await answers.next()
            complete[piece.index].add(piece.chunk)
    return complete


class EventStream:
    """A reply that is sent while it is generated.

    Nothing is sent before the first piece is there, or a heartbeat is due: until then an error still has a status
    of its own. Later it is an event, after which the stream ends without `[DONE]`.
    """

    def __init__(self, answers: Answers, reply: StreamedReply, headers: Mapping[str, str]) -> None:
        self._headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            *((name.encode(), value.encode()) for name, value in headers.items()),
        ]
        self._answers = answers
        self._reply = reply

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, or stop generating when nobody reads any more."""
        try:
            await unless_gone(receive, self._send(scope["path"], send))
        except ClientGone:
            return

    async def _send(self, path: str, send: Send) -> None:
        async with self._answers:
            piece = await self._next()
            await send({"type": "http.response.start", "status": 200, "headers": self._headers})
            try:
                while True:
                    await send({"type": "http.response.body", "body": self._events(piece), "more_body": True})
                    if self._answers.complete:
                        break
                    piece = await self._next()
            except Exception as error:  # noqa: BLE001 - the status is sent, so the stream has to tell
                self._answers.facts.failed = True
                last = _event(error_document(refused(error, path)))
            else:
                last = self._last()
        await send({"type": "http.response.body", "body": last, "more_body": False})

    async def _next(self) -> Piece | None:
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                return await self._answers.next()
        except TimeoutError:
            return None

    def _events(self, piece: Piece | None) -> bytes:
        if piece is None:
            return _ALIVE
        return b"".join(_event(document) for document in self._reply.pieces(piece.index, piece.chunk))

    def _last(self) -> bytes:
        facts = self._answers.facts
        ending = self._reply.ending(facts.tokens_in, facts.tokens_out)
        return _DONE if ending is None else _event(ending) + _DONE


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + _json(document) + b"\n\n"


def _json(document: Any) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
