"""Shadow copies: a share of the requests is answered by another revision too, for comparison only.

A copy is the same request sent through the app once more, with headers that make it the shadow's. It begins when the
first bytes of the main answer have been sent, its answer is thrown away (or kept as one of a pair), it runs with the
lowest priority, and it is given up as soon as users would have to wait.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field

from fettle_server.layer.facts import facts_of
from fettle_server.layer.measuring import answers
from fettle_trainer.config.base import ContractModel

if TYPE_CHECKING:
    from collections.abc import Callable

    from fettle_server.layer.asgi import App, Message, Receive, Scope, Send
    from fettle_server.layer.facts import RequestFacts
    from fettle_server.layer.pairs import PairStore
    from fettle_server.layer.surroundings import Surroundings

__all__ = ["PairSettings", "Shadow", "ShadowSettings"]

Outcome = Literal["answered", "dropped", "failed"]

_LOG: Final = logging.getLogger(__name__)

_MAX_COPIED_BYTES: Final = 1_048_576
"""A longer body is not kept for a copy; no app of ours takes one."""
_FROM_THE_ROUTER: Final = frozenset(
    {b"x-fettle-revision", b"x-fettle-role", b"x-fettle-route", b"x-request-id"}
)
_BUSY_STATUSES: Final = frozenset({429, 503})


class PairSettings(ContractModel):
    """Which pairs of answers are kept. They are personal data: off unless asked for."""

    sample_percent: Annotated[float, Field(gt=0, le=100)] = 100
    """Of the shadow copies, how many leave a pair."""
    keep_prompts: bool = False
    """Otherwise a pair holds the prompt's digest and length."""
    ttl_hours: Annotated[int, Field(ge=1, le=24 * 90)] = 24
    max_mebibytes: Annotated[int, Field(ge=1, le=65_536)] = 64
    """Of all pairs together; the oldest make room."""


class ShadowSettings(ContractModel):
    """The body of `PUT /shadow`; without a revision nothing is copied."""

    revision: Annotated[str, Field(min_length=1, max_length=253)] | None = None
    percent: Annotated[float, Field(ge=0, le=100)] = 0
    """Of the weighted requests; pinned ones are never copied."""
    max_running: Annotated[int, Field(ge=1, le=64)] = 2
    """Copies at a time; more are dropped, none wait."""
    pairs: PairSettings | None = None


@dataclass(slots=True)
class _Main:
    """A request that may get a copy, while users' answer is under way."""

    scope: Scope
    receive: Receive
    send: Send
    body: bytearray = field(default_factory=bytearray)
    whole: bool = False
    status: int = 0
    complete: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def succeeded(self) -> bool:
        """Whether the answer can be one of a pair."""
        return self.complete and self.status == 200 and not facts_of(self.scope).failed


class Shadow:
    """Stands around the measured app and sends it copies of its requests."""

    def __init__(
        self,
        app: App,
        around: Surroundings,
        *,
        count: Callable[[str, Outcome], None],
        pairs: PairStore | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._app = app
        self._busy = around.busy
        self._revisions = around.revisions
        self._count = count
        self._pairs = pairs
        self._chance = chance
        self._running: dict[asyncio.Task[None], asyncio.Event] = {}
        self._keeping: set[asyncio.Task[None]] = set()
        self.settings = ShadowSettings()
        self.outcomes: dict[Outcome, int] = {"answered": 0, "dropped": 0, "failed": 0}

    def configure(self, settings: ShadowSettings) -> None:
        """Take new settings; copies of another revision than the new one end now."""
        if settings.pairs is not None and self._pairs is None:
            raise ValueError(
                "pairs: this server has no folder for them; start it with one, or leave `pairs` out"
            )
        if settings.revision != self.settings.revision:
            self.give_way()
        self.settings = settings

    def give_way(self) -> None:
        """End all copies that are running, as a client ends its request: apps know how to stop then."""
        for hung_up in self._running.values():
            hung_up.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and let a copy follow where one is wanted."""
        if self._running and self._busy():
            self.give_way()
        if not self._wants_copy(scope):
            await self._app(scope, receive, send)
            return
        main = _Main(scope, receive, send)
        try:
            await self._app(scope, self._recording(main), self._starting(main))
        finally:
            main.ended.set()

    def _wants_copy(self, scope: Scope) -> bool:
        wanted = self.settings
        return (
            wanted.revision is not None
            and answers(scope)
            and facts_of(scope).route == "weighted"
            and self._chance() * 100 < wanted.percent
        )

    def _recording(self, main: _Main) -> Receive:
        async def receive() -> Message:
            message = await main.receive()
            if message["type"] == "http.request" and not main.whole:
                main.body += message.get("body", b"")
                main.whole = not message.get("more_body", False)
                if len(main.body) > _MAX_COPIED_BYTES:
                    main.body.clear()
                    main.status = 413
            return message

        return receive

    def _starting(self, main: _Main) -> Send:
        copied = False

        async def send(message: Message) -> None:
            nonlocal copied
            await main.send(message)
            if message["type"] == "http.response.start":
                main.status = max(main.status, message["status"])
                return
            main.complete = not message.get("more_body", False)
            if not copied and message.get("body"):
                copied = True
                self._copy(main)

        return send

    def _copy(self, main: _Main) -> None:
        revision = self.settings.revision
        if (
            revision is None
            or main.status != 200
            or not main.whole
            or facts_of(main.scope).revision == revision
        ):
            return
        if revision not in self._revisions():
            self._ended(revision, "failed")
        elif len(self._running) >= self.settings.max_running or self._busy():
            self._ended(revision, "dropped")
        else:
            hung_up = asyncio.Event()
            task = asyncio.create_task(self._follow(main, revision, hung_up), name="shadow copy")
            self._running[task] = hung_up
            task.add_done_callback(self._running.pop)

    async def _follow(self, main: _Main, revision: str, hung_up: asyncio.Event) -> None:
        scope = _scope_of_copy(main.scope, revision)
        outcome = await _answered(self._app, scope, bytes(main.body), hung_up)
        self._ended(revision, outcome)
        wanted = self.settings.pairs
        if outcome == "answered" and wanted is not None and self._chance() * 100 < wanted.sample_percent:
            # A task of its own: a long main answer must not take the place of another copy.
            task = asyncio.create_task(self._keep(main, facts_of(scope), wanted), name="pair of answers")
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)

    async def _keep(self, main: _Main, shadow: RequestFacts, wanted: PairSettings) -> None:
        await main.ended.wait()
        if self._pairs is None or not main.succeeded:
            return
        body = bytes(main.body)
        try:
            await self._pairs.keep(main.scope["path"], body, facts_of(main.scope), shadow, wanted)
        except OSError as error:
            _LOG.warning("a pair of answers could not be kept: %s", error)

    def _ended(self, revision: str, outcome: Outcome) -> None:
        self.outcomes[outcome] += 1
        self._count(revision, outcome)


async def _answered(app: App, scope: Scope, body: bytes, hung_up: asyncio.Event) -> Outcome:
    """Send a copy through the app and throw its answer away."""
    status = 0
    complete = sent = False

    async def receive() -> Message:
        nonlocal sent
        if sent:
            await hung_up.wait()
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal status, complete
        if message["type"] == "http.response.start":
            status = message["status"]
        else:
            complete = not message.get("more_body", False)

    try:
        await app(scope, receive, send)
    except Exception:  # noqa: BLE001 - whatever it is, it is nothing of the users
        _LOG.exception("a shadow copy failed")
        return "failed"
    if hung_up.is_set() or status in _BUSY_STATUSES:
        return "dropped"
    return "answered" if complete and status == 200 and not facts_of(scope).failed else "failed"


def _scope_of_copy(scope: Scope, revision: str) -> dict[str, Any]:
    headers = [(name, value) for name, value in scope["headers"] if name not in _FROM_THE_ROUTER]
    headers += [
        (b"x-fettle-revision", revision.encode()),
        (b"x-fettle-role", b"shadow"),
        (b"x-fettle-route", b"mirror"),
    ]
    state = {name: value for name, value in scope.get("state", {}).items() if name != "fettle"}
    return {**scope, "headers": headers, "state": state}
