"""A server around any engine: on a real port, or asked without one where the wire does not matter."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from fettle_server.api.body import BodyLimits
from fettle_server.api.names import Names
from fettle_server.api.port import ServingEngine
from fettle_server.api.request_log import RequestLog
from fettle_server.api.serving import Serving
from fettle_server.app import public_app
from fettle_server.ports import listening
from fettle_server.settings import load_settings
from running_server import Server, running

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


@pytest.fixture(scope="session")
def server(tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a server of a tiny model with two adapters, warm-1 and cold-1."""
    from server_releases import release  # noqa: PLC0415

    root = tmp_path_factory.mktemp("adapters")
    base = tiny("qwen3")
    releases = {name: release(base, root, name, seed=seed) for seed, name in enumerate(("warm", "cold"), 1)}
    token_file = root / "token"
    token_file.write_text("0123456789abcdef\n")
    arguments = [
        f"--base={base}", f"--adapters-root={root}", "--model-name=tiny", "--port=0", "--admin-port=0",
        f"--admin-token-file={token_file}", "--max-running=8", "--max-waiting=32", "--threads=1",
    ]  # fmt: skip
    with running(load_settings(arguments, {})) as opened:
        found = Server(
            f"http://127.0.0.1:{opened.port}",
            f"http://127.0.0.1:{opened.admin_port}",
            token_file.read_text().strip(),
            root,
            releases,
            opened.serving,
        )
        assert found.put("warm-1", "cold-1").status_code == 200
        found.settled()
        yield found
