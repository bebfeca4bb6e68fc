"""Between the measuring layer and vLLM: finds the adapter, rewrites what goes in, maps back what comes out."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from fettle_server.answer_ids import new_id
from fettle_server.api.body import BodyLimits, read_json
from fettle_server.api.names import REVISION_HEADER
from fettle_server.api.refusals import refused
from fettle_server.engine.types import EngineError, QueueFullError
from fettle_server.layer.asgi import ClientGone, Refused, header, refuse
from fettle_server.layer.facts import facts_of
from fettle_server.layer.measuring import answers
from fettle_server.vllm.answers import EventStream, whole_answer
from fettle_server.vllm.requests import SCORE, rewritten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fettle_server.api.names import Names
    from fettle_server.layer.asgi import App, Message, Receive, Scope, Send
    from fettle_server.layer.facts import RequestFacts
    from fettle_server.vllm.adapters import VllmAdapters
    from fettle_server.vllm.requests import Asked
    from fettle_server.vllm.settings import LayerSettings

__all__ = ["Answering"]

_RETRY_AFTER_S: Final = 2
_LIMITS: Final = BodyLimits()
_HEADERS_FOR_VLLM: Final = frozenset({b"host", b"content-type", b"user-agent", b"traceparent", b"tracestate"})
"""Others of vLLM's own would choose priority, rank or session; a compressed answer could not be read on its way."""


class Answering:
    """Lets vLLM answer for the revision that is asked for."""

    def __init__(self, app: App, adapters: VllmAdapters, names: Names, settings: LayerSettings) -> None:
        self._app = app
        self._adapters = adapters
        self._names = names
        self._settings = settings
        self._users = 0

    @property
    def busy(self) -> bool:
        """Whether users' requests fill vLLM."""
        return self._users >= self._settings.max_running

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if not answers(scope):
            await self._app(scope, receive, send)
            return
        try:
            with self._counted(facts_of(scope)):
                await self._answer(scope, receive, send)
        except ClientGone:
            return
        except (Refused, EngineError) as error:
            await refuse(send, refused(error, "messages"))

    @contextlib.contextmanager
    def _counted(self, facts: RequestFacts) -> Iterator[None]:
        """Bound what waits inside of vLLM, which takes any number."""
        if facts.priority == "shadow":
            yield
            return
        if self._users >= self._settings.max_running + self._settings.max_waiting:
            raise QueueFullError(_RETRY_AFTER_S)
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        document = await read_json(scope, receive, _LIMITS)
        facts = facts_of(scope)
        held = {adapter.revision: adapter.digest for adapter in self._adapters.adapters()}
        pinned = header(scope, REVISION_HEADER.encode())
        revision = self._names.revision(pinned, _model(scope["path"], document), held)
        facts.revision = revision
        with contextlib.ExitStack() as claims:
            target = (
                None
                if revision == self._names.base
                else claims.enter_context(self._adapters.claimed(revision))
            )
            asked = rewritten(
                scope["path"], document, self._names.alias, target, shadow=facts.priority == "shadow"
            )
            facts.stream, facts.wants_json = asked.stream, asked.wants_json
            mapped = _Mapped(send, asked, facts, score=scope["path"] == SCORE)
            await self._app(_scope_to_vllm(scope, asked), _replayed(asked.body, receive), mapped.send)


def _model(path: str, document: dict[str, object]) -> str | None:
    model = document.get("model")
    if path == SCORE or model is None:
        return None
    if not isinstance(model, str):
        raise Refused(400, "invalid_value", "Invalid 'model': it must be a string.", "model")
    return model


def _scope_to_vllm(scope: Scope, asked: Asked) -> Scope:
    headers = [(name, value) for name, value in scope["headers"] if name in _HEADERS_FOR_VLLM]
    headers.append((b"content-length", str(len(asked.body)).encode()))
    # vLLM names its answer by it; a client's own would let others guess which answers can be rated.
    headers.append((b"x-request-id", new_id(scope).encode()))
    return {
        **scope,
        "headers": headers,
        "path": asked.path,
        "raw_path": asked.path.encode(),
        "query_string": b"",
    }


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Give vLLM the new body, then whatever the client does: to hang up."""
    unread = [body]

    async def replay() -> Message:
        if unread:
            return {"type": "http.request", "body": unread.pop(), "more_body": False}
        return await receive()

    return replay


class _Mapped:
    """The way back: streams event by event, other answers as a whole."""

    def __init__(self, send: Send, asked: Asked, facts: RequestFacts, *, score: bool) -> None:
        self._send = send
        self._asked = asked
        self._facts = facts
        self._score = score
        self._start: Message = {}
        self._stream: EventStream | None = None
        self._parts: list[bytes] = []

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] != "http.response.body":
            await self._send(message)
        elif self._stream is not None:
            await self._pass(message, self._stream)
        else:
            await self._collect(message)

    async def _begin(self, message: Message) -> None:
        kind = next((value for name, value in message["headers"] if name.lower() == b"content-type"), b"")
        headers = [pair for pair in message["headers"] if pair[0].lower() != b"content-length"]
        headers.append((REVISION_HEADER.encode(), self._facts.revision.encode()))
        self._start = {**message, "headers": headers}
        if kind.startswith(b"text/event-stream"):
            self._stream = EventStream(self._asked, self._facts)
            await self._send(self._start)

    async def _pass(self, message: Message, stream: EventStream) -> None:
        last = not message.get("more_body", False)
        data = stream.feed(message.get("body", b""), last=last)
        if data or last:
            await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def _collect(self, message: Message) -> None:
        self._parts.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        body = whole_answer(b"".join(self._parts), self._asked, self._facts, score=self._score)
        length = (b"content-length", str(len(body)).encode())
        await self._send({**self._start, "headers": [*self._start["headers"], length]})
        await self._send({"type": "http.response.body", "body": body})
