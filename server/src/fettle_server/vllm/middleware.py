"""The class that vLLM is given: everything between its clients and its app.

    vllm serve … --middleware fettle_server.vllm.middleware.FettleLayer

Nothing of vLLM is imported. What it does is asked of its app by the paths that it documents.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from fettle_server.api import listing
from fettle_server.api.names import Names
from fettle_server.errors import InvalidSettings
from fettle_server.layer.asgi import Refused, answer, refuse, respond
from fettle_server.layer.stack import Layer
from fettle_server.layer.surroundings import Surroundings
from fettle_server.vllm.adapters import VllmAdapters
from fettle_server.vllm.calls import Vllm
from fettle_server.vllm.inner import Answering
from fettle_server.vllm.operator_paths import operator_paths
from fettle_server.vllm.paths import check_path
from fettle_server.vllm.settings import from_environment

if TYPE_CHECKING:
    from fettle_server.layer.asgi import App, Message, Receive, Scope, Send
    from fettle_server.vllm.settings import LayerSettings

__all__ = ["FettleLayer"]


class FettleLayer:
    """An ASGI middleware class: made by vLLM with its app, told the rest by the environment."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._wrong = ""
        self._serving: _Serving | None = None
        try:
            self._serving = _Serving(app, from_environment(os.environ))
        except InvalidSettings as error:
            self._wrong = str(error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or keep the server from starting with wrong settings."""
        if self._serving is not None:
            await self._serving(scope, receive, send)
        elif scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.failed", "message": self._wrong})
        elif scope["type"] == "http":
            await refuse(send, Refused(503, "wrong_settings", "The server was started with wrong settings."))


class _Serving:
    """The layer with its settings."""

    def __init__(self, app: App, settings: LayerSettings) -> None:
        self._app = app
        self._settings = settings
        self._names = Names(settings.model_name, settings.base_revision)
        self._created = int(time.time())
        self._base_answered = False
        self._vllm = Vllm(app)
        self._adapters = VllmAdapters(self._vllm, settings)
        answering = Answering(app, self._adapters, self._names, settings)
        around = Surroundings(
            revisions=lambda: {
                settings.base_revision,
                *(adapter.revision for adapter in self._adapters.adapters()),
            },
            busy=lambda: answering.busy,
            pairs_folder=settings.pairs_folder,
        )
        self._layer = Layer(answering, around)
        self._operator = operator_paths(
            self._adapters, self._names, settings, self._layer.shadow, lambda: self._ready
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._vllm.learn(scope)
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            # vLLM's realtime API; closing before accepting is how ASGI refuses a connection.
            await send({"type": "websocket.close", "code": 1008})

    @property
    def _ready(self) -> bool:
        return self._base_answered and self._adapters.settled

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def listen() -> Message:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                self._adapters.stop()
            return message

        await self._layer(scope, listen, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        try:
            check_path(scope["method"], path, self._settings.extra_paths)
        except Refused as refused:
            await refuse(send, refused)
            return
        if path in self._operator:
            await self._operator[path](scope, receive, send)
        elif path in {"/healthz", "/readyz", "/metrics"} or path.startswith("/v1/models"):
            await self._told(path, send)
        else:
            await self._layer(scope, receive, send)

    async def _told(self, path: str, send: Send) -> None:
        """Answer what vLLM would answer for itself alone."""
        if path == "/metrics":
            text = await self._metrics()
            await answer(send, 200, text, CONTENT_TYPE_PLAIN_0_0_4)
        elif path == "/healthz":
            await _status(send, (await self._vllm.call("GET", "/health")).ok, "ok", "failed")
        elif path == "/readyz":
            await _status(send, await self._is_ready(), "ready", "loading")
        else:
            await respond(send, self._models(path))

    async def _metrics(self) -> bytes:
        """Put our series behind vLLM's; the names have nothing in common."""
        vllms = await self._vllm.call("GET", "/metrics")
        own = self._layer.metrics.exposition()
        return vllms.body.rstrip(b"\n") + b"\n" + own if vllms.ok else own

    async def _is_ready(self) -> bool:
        if not (await self._vllm.call("GET", "/health")).ok:
            return False
        if not self._base_answered:
            self._base_answered = (await self._vllm.one_token(self._names.alias)).ok
        return self._ready

    async def _models(self, path: str) -> bytes:
        listed = listing.models(self._names, self._adapters.adapters(), self._created)
        name = path.removeprefix("/v1/models").lstrip("/")
        return json.dumps(listing.model(name, listed) if name else listed).encode()


async def _status(send: Send, good: bool, yes: str, no: str) -> None:
    await answer(send, 200 if good else 503, json.dumps({"status": yes if good else no}).encode())
