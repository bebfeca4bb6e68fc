"""The process: both ports in one event loop, the engine between them, and an end that loses no answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import uvloop

from fettle_server.admin import BearerToken, admin_app
from fettle_server.api.request_log import RequestLog
from fettle_server.api.serving import Serving
from fettle_server.app import public_app
from fettle_server.engine.engine import Engine
from fettle_server.layer.admin_routes import ShadowEndpoint
from fettle_server.layer.stack import around_engine
from fettle_server.layer.surroundings import EngineNames
from fettle_server.ports import listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fettle_server.settings import ServerSettings

__all__ = ["Opened", "opened", "run", "start", "stop"]

_log: Final = logging.getLogger(__name__)


def run(settings: ServerSettings) -> None:
    """Serve until the process is told to stop; raise what keeps it from serving."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))


@dataclass(frozen=True)
class Opened:
    """What listens, and on which ports."""

    serving: Serving
    port: int
    admin_port: int | None


@contextlib.asynccontextmanager
async def opened(settings: ServerSettings) -> AsyncIterator[Opened]:
    """Listen on both ports for an engine that is still to be started; on leaving, let begun answers end."""
    engine = Engine(settings.engine)
    serving = Serving(engine)
    layer = around_engine(
        public_app(serving, settings.names),
        engine,
        EngineNames(settings.names.alias, settings.names.base, settings.engine.max_adapters),
        pairs_folder=settings.pairs_folder,
    )
    async with contextlib.AsyncExitStack() as ports:
        port = await ports.enter_async_context(
            listening("public", RequestLog(layer), settings.host, settings.port)
        )
        admin_port = None
        if settings.admin_token_file is not None:
            shadow = ShadowEndpoint(layer.shadow)
            admin = admin_app(serving, settings.names, settings.engine.adapters_root, shadow)
            guarded = RequestLog(BearerToken(admin, settings.admin_token_file))
            admin_port = await ports.enter_async_context(
                listening("admin", guarded, settings.host, settings.admin_port)
            )
        yield Opened(serving, port, admin_port)


async def start(serving: Serving, settings: ServerSettings) -> None:
    """Load the model and begin to load the adapters."""
    await serving.engine.start()
    await serving.engine.apply(settings.adapters)
    serving.started = True


async def stop(serving: Serving, drain_s: float) -> None:
    """Take no new requests, and let the running ones end."""
    serving.stopping = True
    _log.info("stopping: running answers have %g s", drain_s)
    await serving.engine.stop(drain_s)


async def _serve(settings: ServerSettings) -> None:
    told = _stop_signal()
    async with opened(settings) as server:
        await _start_unless(told, server.serving, settings)
        await told.wait()
        await stop(server.serving, settings.drain_s)


async def _start_unless(told: asyncio.Event, serving: Serving, settings: ServerSettings) -> None:
    """Load the model, or stop waiting for it when the signal comes first."""
    starting = asyncio.create_task(start(serving, settings))
    stopping = asyncio.create_task(told.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if starting.done():
        starting.result()
    for task in (starting, stopping):
        task.cancel()


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
