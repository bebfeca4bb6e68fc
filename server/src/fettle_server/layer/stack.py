"""The whole layer around an app: measuring, shadow copies, `GET /metrics`, `GET /usage` and `POST /feedback`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Final, Protocol

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, ProcessCollector

from fettle_server.feedback import FeedbackBook
from fettle_server.layer.asgi import answer
from fettle_server.layer.engine_metrics import EngineCollector, VllmNames
from fettle_server.layer.feedback_endpoint import FeedbackEndpoint
from fettle_server.layer.measuring import Measuring
from fettle_server.layer.pairs import PairStore
from fettle_server.layer.surroundings import Surroundings
from fettle_server.metrics import LayerMetrics
from fettle_server.shadow import Shadow
from fettle_server.usage import ClientUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from fettle_server.engine.types import AdapterState, Load
    from fettle_server.layer.asgi import App, Message, Receive, Scope, Send
    from fettle_server.layer.facts import RequestFacts
    from fettle_server.layer.surroundings import EngineNames

__all__ = ["Layer", "Served", "around_engine"]

_SWEEP_EVERY_S: Final = 300.0


class Layer:
    """An ASGI app around another one."""

    def __init__(
        self,
        app: App,
        around: Surroundings,
        also: Callable[[RequestFacts, float], None] = lambda _facts, _began_at: None,
    ) -> None:
        self.metrics = LayerMetrics(around.revisions)
        self.feedback = FeedbackBook()
        self.usage = ClientUsage()
        self._pairs = None if around.pairs_folder is None else PairStore(around.pairs_folder)
        self._app = app
        self.shadow = Shadow(
            Measuring(app, self.metrics, self.feedback, self.usage, also),
            around,
            count=self.metrics.shadowed,
            pairs=self._pairs,
        )
        self._feedback_endpoint = FeedbackEndpoint(self.feedback, self.metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == "/metrics" and scope["method"] == "GET":
            await answer(send, 200, self.metrics.exposition(), CONTENT_TYPE_PLAIN_0_0_4)
        elif scope["path"] == "/usage" and scope["method"] == "GET":
            await answer(send, 200, json.dumps(self.usage.document()).encode())
        elif scope["path"] == "/feedback":
            await self._feedback_endpoint(scope, receive, send)
        else:
            await self.shadow(scope, receive, send)

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Keep the folder of pairs swept for as long as the server lives; end the copies with it."""
        sweeping = None if self._pairs is None else asyncio.create_task(_sweep(self._pairs))

        async def listen() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self.shadow.give_way()
            return message

        try:
            await self._app(scope, listen, send)
        finally:
            if sweeping is not None:
                sweeping.cancel()


async def _sweep(pairs: PairStore) -> None:
    while True:
        # A folder that cannot be read now may be there again at the next round.
        with contextlib.suppress(OSError):
            await pairs.sweep()
        await asyncio.sleep(_SWEEP_EVERY_S)


class Served(Protocol):
    """As much of our engine as the layer looks at."""

    def load(self) -> Load:
        """Return how busy it is."""

    def adapters(self) -> Sequence[AdapterState]:
        """Return what it holds."""


def around_engine(app: App, engine: Served, names: EngineNames, *, pairs_folder: Path | None = None) -> Layer:
    """Return the layer around an app that answers from our own engine."""

    def revisions() -> set[str]:
        return {names.base_revision, *(adapter.revision for adapter in engine.adapters())}

    def busy() -> bool:
        load = engine.load()
        return load.waiting > 0 or load.running >= load.max_running

    layer = Layer(
        app,
        Surroundings(revisions, busy, pairs_folder),
        lambda facts, began_at: under_vllms_names.ended(facts, began_at=began_at),
    )
    registry = layer.metrics.registry
    under_vllms_names = VllmNames(registry, names.model_name)
    registry.register(EngineCollector(engine.load, names))
    ProcessCollector(registry=registry)
    return layer
