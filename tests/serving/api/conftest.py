"""A server around any engine: on a real port, or asked without one where the wire does not matter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import httpx
import pytest

from fettle_server.api.body import BodyLimits
from fettle_server.api.names import Names
from fettle_server.api.port import ServingEngine
from fettle_server.api.request_log import RequestLog
from fettle_server.api.serving import Serving
from fettle_server.app import public_app
from fettle_server.ports import listening

Client = AbstractAsyncContextManager[httpx.AsyncClient]


def _app(engine: ServingEngine, limits: BodyLimits | None, state: Serving | None) -> RequestLog:
    return RequestLog(public_app(state or Serving(engine, started=True), Names("tiny", "base"), limits))


@pytest.fixture
def serve() -> Callable[..., Client]:
    """Return what serves an engine on a port: `async with serve(engine) as client`; its model is called `tiny`."""

    @asynccontextmanager
    async def serving(
        engine: ServingEngine, limits: BodyLimits | None = None, state: Serving | None = None
    ) -> AsyncIterator[httpx.AsyncClient]:
        async with (
            listening("test", _app(engine, limits, state), "127.0.0.1", 0) as port,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=30) as client,
        ):
            yield client

    return serving


@pytest.fixture
def ask() -> Callable[..., httpx.AsyncClient]:
    """Return what asks the app itself: `async with ask(engine) as client`; fast, and nothing streams."""

    def asking(
        engine: ServingEngine, limits: BodyLimits | None = None, state: Serving | None = None
    ) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(_app(engine, limits, state), raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://app", timeout=30)

    return asking
