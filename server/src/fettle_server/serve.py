"""The process: both ports in one event loop, the engine between them, and an end that loses no answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
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
    from fettle_server.settings import ServerSettings

__all__ = ["run"]

_log: Final = logging.getLogger(__name__)


def run(settings: ServerSettings) -> None:
    """Serve until the process is told to stop; raise what keeps it from serving."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(settings))


async def _serve(settings: ServerSettings) -> None:
    engine = Engine(settings.engine)
    serving = Serving(engine)
    layer = around_engine(
        public_app(serving, settings.names),
        engine,
        EngineNames(settings.names.alias, settings.names.base, settings.engine.max_adapters),
        pairs_folder=settings.pairs_folder,
    )
    stop = _stop_signal()
    async with contextlib.AsyncExitStack() as ports:
        await ports.enter_async_context(listening("public", RequestLog(layer), settings.host, settings.port))
        if settings.admin_token_file is not None:
            shadow = ShadowEndpoint(layer.shadow)
            admin = admin_app(serving, settings.names, settings.engine.adapters_root, shadow)
            guarded = RequestLog(BearerToken(admin, settings.admin_token_file))
            await ports.enter_async_context(listening("admin", guarded, settings.host, settings.admin_port))
        await _work(serving, settings, stop)
        serving.stopping = True
        _log.info("stopping: running answers have %g s", settings.drain_s)
        await engine.stop(settings.drain_s)


async def _work(serving: Serving, settings: ServerSettings, stop: asyncio.Event) -> None:
    """Load the model and serve until the signal, which may come before the model is there."""
    starting = asyncio.create_task(_start(serving, settings))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        starting.result()
    await stopping
    starting.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await starting


async def _start(serving: Serving, settings: ServerSettings) -> None:
    await serving.engine.start()
    await serving.engine.apply(settings.adapters)
    serving.started = True


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop
