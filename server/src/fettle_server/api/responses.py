"""Replies as they go over the wire: whole, streamed as server-sent events, or refused."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import to_json

from fettle_server.api.generation import unless_gone
from fettle_server.api.refusals import refused
from fettle_server.api.reply import Answer
from fettle_server.layer.asgi import ClientGone, answer, error_document

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

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
    body = to_json(document)
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
        line = _Line(send, self._headers)
        async with self._answers, _kept_alive(line):
            try:
                while not self._answers.complete:
                    piece = await self._answers.next()
                    await line.say(self._events(piece))
            except Exception as error:
                if not line.has_begun:
                    raise
                # The status is sent, so the stream has to tell.
                self._answers.facts.failed = True
                last = _event(error_document(refused(error, path)))
            else:
                last = self._last()
        await line.end(last)

    def _events(self, piece: Piece) -> bytes:
        return b"".join(_event(document) for document in self._reply.pieces(piece.index, piece.chunk))

    def _last(self) -> bytes:
        facts = self._answers.facts
        ending = self._reply.ending(facts.tokens_in, facts.tokens_out)
        return _DONE if ending is None else _event(ending) + _DONE


class _Line:
    """What is sent on one connection; it begins with the first thing said."""

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self.has_begun = False
        self.said_at = _now()
        """When something was said last."""
        self._send = send
        self._headers = headers
        # A heartbeat may be due while an event is held up by a slow reader.
        self._turn = asyncio.Lock()

    async def say(self, body: bytes) -> None:
        """Send something that more will follow."""
        async with self._turn:
            self.said_at = _now()
            if not self.has_begun:
                self.has_begun = True
                await self._send({"type": "http.response.start", "status": 200, "headers": self._headers})
            await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def end(self, body: bytes) -> None:
        """Send the last thing."""
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


@contextlib.asynccontextmanager
async def _kept_alive(line: _Line) -> AsyncIterator[None]:
    beating = asyncio.create_task(_beat(line))
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


async def _beat(line: _Line) -> None:
    while True:
        rest_s = line.said_at + HEARTBEAT_S - _now()
        if rest_s > 0:
            await asyncio.sleep(rest_s)
        else:
            await line.say(_ALIVE)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + to_json(document) + b"\n\n"
