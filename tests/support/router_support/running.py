"""A real HAProxy on loopback, driven by the agent's own engine."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from fettle_router.engine import Engine
from fettle_router.files import candidate_of
from fettle_router.layout import Layout
from fettle_router.render import render
from fettle_router.slots import Endpoint, Slots, assign
from fettle_router.table import Table
from free_ports import free_ports
from router_support.tables import KEY, table

CHAT = "/v1/chat/completions"
DEADLINE_S = 15.0


def require_haproxy() -> None:
    """Have HAProxy, or fail with what to do. Root gets the package of the distribution."""
    if shutil.which("haproxy"):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.fail("HAProxy 2.6 or newer is needed on PATH: apt-get install haproxy")
    with Path("/tmp/fettle-haproxy.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not shutil.which("haproxy"):
            command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", "haproxy"]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                pytest.fail(f"apt-get install haproxy failed: {done.stderr.strip()[-500:]}")


@dataclass
class Router:
    """A running router: its engine, and clients for it."""

    layout: Layout
    engine: Engine
    session: aiohttp.ClientSession
    port: int
    slots: dict[str, Slots] = field(default_factory=dict)

    async def serve(
        self,
        wanted: Table | None = None,
        endpoints: Iterable[Endpoint] = (),
        blocked: Mapping[str, int] | None = None,
        **pools: Iterable[Endpoint],
    ) -> None:
        """Bring a table into force; `endpoints` stand in pool-a, those of other pools have their name."""
        routing = wanted or table()
        where = {"pool-a": endpoints} | {name.replace("_", "-"): those for name, those in pools.items()}
        self.slots = {
            pool.name: assign(self.slots.get(pool.name, ()), where.get(pool.name, ()))
            for pool in routing.pools
        }
        renderings = (
            render(routing, self.slots, layout, blocked)
            for layout in (self.layout, candidate_of(self.layout))
        )
        await self.engine.serve(*renderings)

    async def post(
        self, path: str = CHAT, *, key: str | None = KEY, headers: dict[str, str] | None = None, **body: Any
    ) -> Answered:
        """Send one JSON request and return the whole answer."""
        sent = {"Authorization": f"Bearer {key}"} if key else {}
        async with self.session.post(self.url(path), json=body, headers=sent | (headers or {})) as answer:
            return Answered(
                answer.status,
                {name.lower(): value for name, value in answer.headers.items()},
                await answer.text(),
            )

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


@dataclass(frozen=True)
class Answered:
    """An answer, read to its end."""

    status: int
    headers: dict[str, str]
    text: str

    @property
    def revision(self) -> str:
        return self.headers.get("x-fettle-revision", "")


@contextlib.asynccontextmanager
async def running(**layout: Any) -> AsyncIterator[Router]:
    """Run a router that serves nothing yet."""
    require_haproxy()
    with tempfile.TemporaryDirectory(prefix="fettle-router-") as directory:
        async with _running(Path(directory), layout) as router:
            yield router


@contextlib.asynccontextmanager
async def _running(directory: Path, layout: dict[str, Any]) -> AsyncIterator[Router]:
    ports = free_ports(3)
    addresses = dict(zip(("clients", "metrics", "tls_clients"), map(_loopback, ports), strict=True))
    surroundings = Layout(directory=directory, **(addresses | {"threads": 1} | layout))
    engine = Engine(surroundings)
    # A connection for each request: after a reload a kept one would still be answered by the old process, once.
    connector = aiohttp.TCPConnector(limit=0, force_close=True)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(30)) as session:
        try:
            yield Router(surroundings, engine, session, ports[0])
        finally:
            await engine.process.stop(grace_s=0)


async def eventually(
    condition: Callable[[], Awaitable[bool] | bool], what: str, within_s: float = DEADLINE_S
) -> None:
    """Return as soon as a condition holds; fail when it does not in time."""

    async def holds() -> bool:
        result = condition()
        return result if isinstance(result, bool) else await result

    try:
        async with asyncio.timeout(within_s):
            while not await holds():  # noqa: ASYNC110 - what is observed sends no event
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"not within {within_s} s: {what}")


def _loopback(port: int) -> str:
    return f"127.0.0.1:{port}"
