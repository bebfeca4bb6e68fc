"""Routing table and endpoints in, HAProxy 2.6 configuration and map files out. Pure.

The configuration holds only what is the same for every request and every step of a rollout: the rules
(`fettle_router.rules`). What changes while serving stands in maps (`fettle_router.maps`) and server slots
(`fettle_router.slots`), which the agent changes through HAProxy's runtime socket. `Rendered.structure` says when that is
not enough.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fettle_router.layout import Layout
from fettle_router.maps import LOADED, Maps, maps
from fettle_router.refusals import own_errors
from fettle_router.rules import counters, rules
from fettle_router.slots import Endpoint, Slots, server_name
from fettle_router.table import Table

__all__ = ["Rendered", "render"]

_BUFFER_BYTES: Final = 65_536


@dataclass(frozen=True)
class Rendered:
    """Everything that HAProxy reads."""

    configuration: str
    """Content of haproxy.cfg, with the servers that are known now."""
    structure: str
    """Digest of what only a reload can change: the configuration without its servers' addresses."""
    maps: Maps
    slots: Mapping[str, Slots]


def render(
    table: Table, slots: Mapping[str, Slots], layout: Layout, blocked: Mapping[str, int] | None = None
) -> Rendered:
    """Return what HAProxy has to read for a table and the pods that stand in the slots of each pool.

    `blocked` holds the clients that have used up their tokens, each until a second of the clock.
    """
    fixed = [*_global(layout), *_defaults(), *counters(), *_frontend(table, layout), *_inside(layout)]
    sizes = [f"{pool.name} {pool.port} {len(slots[pool.name])}" for pool in table.pools]
    structure = hashlib.sha256("\n".join([*fixed, *sizes]).encode()).hexdigest()
    backends = [line for pool in table.pools for line in _backend(pool.name, pool.port, slots[pool.name])]
    text = "\n".join([f"# {structure}", *fixed, *backends, ""])
    return Rendered(
        text.replace("@structure@", structure), structure, maps(table, slots, blocked), dict(slots)
    )


def _global(layout: Layout) -> list[str]:
    return [
        "global",
        "    description @structure@",
        "    log stdout format raw local0 notice",
        f"    nbthread {layout.threads}",
        f"    maxconn {layout.max_connections}",
        f"    stats socket {layout.runtime_socket} mode 600 level admin expose-fd listeners",
        "    stats timeout 10s",
        # A stream may last 30 minutes; a process that was replaced waits for its last one.
        "    hard-stop-after 31m",
        f"    tune.bufsize {_BUFFER_BYTES}",
        "    tune.maxrewrite 1024",
        "    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets",
        "",
    ]


def _defaults() -> list[str]:
    return [
        "defaults",
        "    mode http",
        # Without it HAProxy holds small chunks back and the first token of a stream comes 200 ms late.
        "    option http-no-delay",
        "    option abortonclose",
        # On a reload a quiet connection is closed with its next answer, not under the client's next request.
        "    option idle-close-on-response",
        "    option http-restrict-req-hdr-names delete",
        "    option redispatch 1",
        "    retries 1",
        "    retry-on conn-failure",
        "    timeout connect 2s",
        "    timeout http-request 10s",
        "    timeout http-keep-alive 15s",
        "    timeout client 60s",
        "    timeout client-fin 10s",
        "    timeout server 30m",
        "    timeout queue 10s",
        *(f"    {line}" for line in own_errors()),
        "",
    ]


def _frontend(table: Table, layout: Layout) -> list[str]:
    lines = [f"bind {layout.clients} proto h1"]
    if layout.certificate:
        lines.append(f"bind {layout.tls_clients} ssl crt {layout.certificate} alpn h2,http/1.1")
    lines += rules(table, layout)
    return ["frontend clients", *(f"    {line}" for line in lines), ""]


def _inside(layout: Layout) -> list[str]:
    """For Prometheus, and for whoever asks which table this process has loaded."""
    loaded = f"str(version),map_str({layout.map_file(LOADED)})"
    return [
        "frontend metrics",
        f"    bind {layout.metrics}",
        "    http-request use-service prometheus-exporter if { path /metrics }",
        f"    http-request return status 200 content-type text/plain lf-string %[{loaded}] if {{ path /version }}",
        "    http-request deny deny_status 404",
        "",
    ]


def _backend(pool: str, port: int, slots: Slots) -> list[str]:
    servers = [_server(position, port, endpoint) for position, endpoint in enumerate(slots)]
    return [
        f"backend {pool}",
        "    balance leastconn",
        "    use-server %[var(txn.pod),field(2,/)] if { var(txn.pod) -m found }",
        # Notices within seconds what EndpointSlices tell after most of a minute: a node that is gone. Answers are
        # not judged here: a bad adapter must not take the good ones of its pool out of rotation.
        "    default-server check inter 2s fall 2 rise 1 observe layer4 error-limit 3 on-error mark-down",
        *(f"    {line}" for line in servers),
        "",
    ]


def _server(position: int, port: int, endpoint: Endpoint | None) -> str:
    if endpoint is None:
        return f"server {server_name(position)} 127.0.0.1:{port} disabled"
    return f"server {server_name(position)} {_authority(endpoint)}"


def _authority(endpoint: Endpoint) -> str:
    address = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
    return f"{address}:{endpoint.port}"
