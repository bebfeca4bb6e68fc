"""`python -m fettle_router`: reads flags and environment, nowhere else; runs the agent until it is told to stop."""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from aiohttp import web

from fettle_router.agent import Agent, Source
from fettle_router.errors import InvalidConfiguration, RouterError
from fettle_router.kube import ApiServer, in_cluster, session
from fettle_router.layout import Layout
from fettle_router.status import application

__all__ = ["main"]

_log: Final = logging.getLogger("fettle_router")
_LONGEST_DIRECTORY: Final = 60
"""The path of a socket has at most 107 characters, and HAProxy appends to it while it starts."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one router replica."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        return asyncio.run(_run(options))
    except RouterError as error:
        _log.error("%s", error)
        return 1


async def _run(options: argparse.Namespace) -> int:
    api = _api(options)
    _expect_short(options.directory)
    source = Source(options.namespace, options.table, options.tls)
    layout = Layout(
        options.directory,
        clients=options.listen,
        tls_clients=options.listen_tls,
        metrics=options.listen_metrics,
        threads=options.threads,
        max_connections=options.max_connections,
    )
    stop = _stop_signal()
    async with session(api) as client:
        agent = Agent(source, api, client, layout)
        server = web.AppRunner(application(agent), access_log=None)
        await server.setup()
        host, _, port = options.listen_agent.rpartition(":")
        await web.TCPSite(server, host or None, int(port)).start()
        work = asyncio.create_task(agent.run())
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.done():
                _log.info("stopping: no new connections, open ones have %d s", options.grace)
                work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
            return 0
        finally:
            stopping.cancel()
            await agent.engine.process.stop(options.grace if stop.is_set() else 0)
            await server.cleanup()


def _expect_short(directory: Path) -> None:
    if len(str(directory)) > _LONGEST_DIRECTORY:
        raise InvalidConfiguration(
            f"--directory {directory} is too long for the sockets in it: at most {_LONGEST_DIRECTORY} characters."
        )


def _stop_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _api(options: argparse.Namespace) -> ApiServer:
    if options.api_server is None:
        return in_cluster()
    return ApiServer(options.api_server, options.api_ca, options.api_token)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fettle-router", description=__doc__)
    parser.add_argument("--namespace", required=True, help="namespace of the routing table and the pools")
    parser.add_argument("--table", required=True, help="name of the ConfigMap that holds the routing table")
    parser.add_argument("--directory", type=Path, default=Path("/run/fettle"), help="for files and sockets")
    parser.add_argument("--tls", type=Path, help="folder of a mounted kubernetes.io/tls Secret")
    parser.add_argument("--listen", default=":8080", help="clients, plain HTTP")
    parser.add_argument("--listen-tls", default=":8443", help="clients, when there is a certificate")
    parser.add_argument("--listen-metrics", default=":9101", help="HAProxy's own Prometheus metrics")
    parser.add_argument("--listen-agent", default=":9102", help="/version, /healthz, /readyz and /metrics")
    parser.add_argument(
        "--threads", type=int, default=2, help="HAProxy's threads: as many as the pod has CPUs"
    )
    parser.add_argument("--max-connections", type=int, default=4096)
    parser.add_argument(
        "--grace", type=float, default=30, help="seconds that open requests have when stopping"
    )
    parser.add_argument("--api-server", help="URL of the API server, when not run inside a pod")
    parser.add_argument("--api-ca", type=Path, help="file with its certificate authority")
    parser.add_argument("--api-token", type=Path, help="file with a bearer token")
    return parser


if __name__ == "__main__":
    sys.exit(main())
