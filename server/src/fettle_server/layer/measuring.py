"""The part of the layer that watches requests from outside and counts what becomes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fettle_server.layer.facts import facts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from fettle_server.feedback import FeedbackBook
    from fettle_server.layer.asgi import App, Message, Receive, Scope, Send
    from fettle_server.layer.facts import RequestFacts
    from fettle_server.metrics import LayerMetrics
    from fettle_server.usage import ClientUsage

__all__ = ["ANSWER_PATHS", "Measuring", "answers"]

ANSWER_PATHS: Final = frozenset({"/v1/chat/completions", "/v1/completions", "/score"})
"""Where a model answers; everything else is neither measured nor copied."""

CLIENT_GONE: Final = 499
BROKEN: Final = 500


def answers(scope: Scope) -> bool:
    """Tell whether a model is asked for an answer."""
    return scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in ANSWER_PATHS


class Measuring:
    """Counts every request for an answer, and remembers which answers can be rated."""

    def __init__(
        self,
        app: App,
        metrics: LayerMetrics,
        feedback: FeedbackBook,
        usage: ClientUsage,
        also: Callable[[RequestFacts, float], None] = lambda _facts, _began_at: None,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._feedback = feedback
        self._usage = usage
        self._also = also

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and watch it."""
        if not answers(scope):
            await self._app(scope, receive, send)
            return
        facts = facts_of(scope)
        began_at = facts.clock()
        watch = _Watch(receive, send, lambda: self._remember(facts))
        self._metrics.began(facts)
        self._usage.began(facts)
        try:
            await self._app(scope, watch.receive, watch.send)
        finally:
            self._usage.ended(facts)
            self._metrics.ended(facts, code=watch.code(facts), began_at=began_at)
            if facts.route != "mirror":
                self._also(facts, began_at)

    def _remember(self, facts: RequestFacts) -> bool:
        """Make an answer known to the feedback before the client can know its id."""
        if facts.route != "mirror" and facts.response_id:
            self._feedback.remember(facts.response_id, self._metrics.subject(facts))
        return bool(facts.response_id)


class _Watch:
    """Both directions of one request, with an eye on how it ends."""

    def __init__(self, receive: Receive, send: Send, sending: Callable[[], bool]) -> None:
        self._receive = receive
        self._send = send
        self._sending = sending
        self._told = False
        self._status = 0
        self._complete = False
        self._gone = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._complete:
            self._gone = True
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
        if not self._told and self._status < 400:
            self._told = self._sending()
        try:
            await self._send(message)
        except OSError:
            # How a server may tell that nobody listens any more.
            self._gone = True
            raise
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._complete = True

    def code(self, facts: RequestFacts) -> int:
        """Return the status, or what became of an answer that did not arrive as a whole."""
        if self._gone:
            return CLIENT_GONE
        if facts.failed or not self._complete:
            return max(self._status, BROKEN)
        return self._status
