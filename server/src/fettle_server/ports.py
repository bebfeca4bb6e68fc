"""A port, and an app behind it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from typing import TYPE_CHECKING, Any, Final

import uvicorn

from fettle_server.connections import BoundedConnection
from fettle_server.errors import InvalidSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fettle_server.layer.asgi import App

__all__ = ["listening"]

_log: Final = logging.getLogger(__name__)
_KEEP_ALIVE_S: Final = 75
"""Longer than a proxy keeps a connection that it does not use, so that no request meets a closing one."""
_FLUSH_S: Final = 5
"""What clients have to read the last bytes of their answers."""


@contextlib.asynccontextmanager
async def listening(name: str, app: App, host: str, port: int) -> AsyncIterator[int]:
    """Serve an app on a port, whose number is yielded; on leaving, let answers end that have begun."""
    listener = _listener(host, port)
    # Connections inherit it. asyncio sets it only for sockets that it made itself, and without it the second write
    # of an answer waits for the client to acknowledge the first: 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    real_port: int = listener.getsockname()[1]
    server = _server(app)
    task = asyncio.create_task(server.serve(sockets=[listener]))
    _log.info("listening", extra={"told": {"port": real_port, "for": name}})
    try:
        yield real_port
    finally:
        server.should_exit = True
        await task


def _server(app: App) -> Any:
    config = uvicorn.Config(
        app,
        http=BoundedConnection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_FLUSH_S,
    )
    server = uvicorn.Server(config)
    # Two servers share the process, so the signals are taken once, here.
    server.capture_signals = contextlib.nullcontext
    return server


def _listener(host: str, port: int) -> socket.socket:
    try:
        if host != "*":
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            return socket.create_server((host, port), family=family)
        if socket.has_dualstack_ipv6():
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        return socket.create_server(("", port))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise InvalidSettings(f"{host}:{port} cannot be listened on: {reason}.") from None
