"""The agent's own HTTP server: what is loaded, whether the replica is fit to serve, and metrics."""

from dataclasses import asdict
from typing import Final

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from fettle_router.agent import Agent
from fettle_router.errors import HaproxyFailed

__all__ = ["application"]

_AGENT: Final = web.AppKey("agent", Agent)


def application(agent: Agent) -> web.Application:
    """Return `GET /version`, `/healthz`, `/readyz` and `/metrics`."""
    app = web.Application()
    app[_AGENT] = agent
    app.add_routes(
        [
            web.get("/version", _version),
            web.get("/healthz", _healthz),
            web.get("/readyz", _readyz),
            web.get("/metrics", _metrics),
        ]
    )
    return app


async def _version(request: web.Request) -> web.Response:
    report = asdict(await request.app[_AGENT].report())
    return web.json_response({"inForce": report.pop("in_force"), **report})


async def _healthz(_: web.Request) -> web.Response:
    """Answer while the loop runs; what cannot be cured by a restart is not told here."""
    return web.Response(text="ok")


async def _readyz(request: web.Request) -> web.Response:
    report = await request.app[_AGENT].report()
    if report.version:
        return web.Response(text="ok")
    return web.Response(status=503, text=report.problem or "no routing table has been loaded yet")


async def _metrics(request: web.Request) -> web.Response:
    agent = request.app[_AGENT]
    registry = CollectorRegistry()
    report = await agent.report()
    _gauge(
        registry,
        "fettle_router_table_version",
        "Version of the table that HAProxy has loaded.",
        report.version,
    )
    _gauge(registry, "fettle_router_in_force", "1 when HAProxy has all that it should have.", report.in_force)
    _gauge(
        registry,
        "fettle_router_problem",
        "1 when a newer table or certificate cannot be used.",
        bool(report.problem),
    )
    _counter(registry, "fettle_router_reloads", "Starts and reloads of HAProxy.", agent.engine.reloads)
    _counter(
        registry, "fettle_router_runtime_changes", "Changes without a reload.", agent.engine.runtime_changes
    )
    await _count_requests(registry, agent)
    return web.Response(body=generate_latest(registry), content_type="text/plain")


async def _count_requests(registry: CollectorRegistry, agent: Agent) -> None:
    labels = ["revision", "route"]
    requests = Counter("fettle_router_requests", "Requests sent to a revision.", labels, registry=registry)
    client = Counter(
        "fettle_router_client_errors", "Requests that ended with 4xx.", labels, registry=registry
    )
    server = Counter(
        "fettle_router_server_errors", "Requests that ended with 5xx.", labels, registry=registry
    )
    try:
        counted = await agent.engine.runtime.counters()
    except HaproxyFailed:
        return
    for each in counted:
        requests.labels(each.revision, each.route).inc(each.requests)
        client.labels(each.revision, each.route).inc(each.client_errors)
        server.labels(each.revision, each.route).inc(each.server_errors)


def _gauge(registry: CollectorRegistry, name: str, text: str, value: float) -> None:
    Gauge(name, text, registry=registry).set(value)


def _counter(registry: CollectorRegistry, name: str, text: str, value: float) -> None:
    Counter(name, text, registry=registry).inc(value)
