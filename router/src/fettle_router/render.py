"""Routing table and endpoints in, HAProxy 2.6 configuration and map files out. Pure.

The configuration holds only what is the same for every request and every step of a rollout: the rules. What
changes while serving stands in maps (`fettle_router.maps`) and server slots (`fettle_router.slots`), which the
agent changes through HAProxy's runtime socket. `Rendered.structure` says when that is not enough.

The rules run in this order, and each one may answer instead of passing on: known path and method, key, limits,
shape of the request, pin, split. Only then are the headers rewritten and a pool chosen. Nothing that a client
sends is used without having been found in a map, the sticky value apart, which is only hashed.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from fettle_router.layout import Layout
from fettle_router.maps import ARMS, CARDS, KEYS, LIMITS, LOADED, Maps, maps
from fettle_router.slots import Endpoint, Slots
from fettle_router.table import SLOTS, Table

__all__ = ["ANSWER_PATHS", "Rendered", "render", "server_name"]

ANSWER_PATHS: Final = ("/v1/chat/completions", "/v1/completions", "/score")
"""All that a client can reach on a model server."""

MAX_HEADER_BYTES: Final = 16_384
MAX_BODY_BYTES: Final = 1_048_576
_BUFFER_BYTES: Final = 65_536
_MAX_UNDECLARED_BODY_BYTES: Final = 40_960
"""A body without Content-Length must fit into the buffer beside the largest allowed headers."""

_HEADERS_THAT_STAY_HERE: Final = (
    "authorization",
    "cookie",
    "expect",
    "forwarded",
    "http2-settings",
    "proxy-authorization",
    "proxy-connection",
    "upgrade",
    "x-real-ip",
)
_PREFIXES_THAT_STAY_HERE: Final = ("x-fettle-", "x-forwarded-", "x-original-", "x-rewrite-", "x-http-method")


@dataclass(frozen=True)
class Rendered:
    """Everything that HAProxy reads."""

    configuration: str
    """Content of haproxy.cfg, with the servers that are known now."""
    structure: str
    """Digest of what only a reload can change: the configuration without its servers' addresses."""
    maps: Maps
    slots: Mapping[str, Slots]


def render(table: Table, slots: Mapping[str, Slots], layout: Layout) -> Rendered:
    """Return what HAProxy has to read for a table and the pods that stand in the slots of each pool."""
    rules = [*_global(layout), *_defaults(), *_counters(), *_frontend(table, layout), *_inside(layout)]
    sizes = [f"{pool.name} {pool.port} {len(slots[pool.name])}" for pool in table.pools]
    structure = hashlib.sha256("\n".join([*rules, *sizes]).encode()).hexdigest()
    backends = [line for pool in table.pools for line in _backend(pool.name, pool.port, slots[pool.name])]
    text = "\n".join([f"# {structure}", *rules, *backends, ""])
    return Rendered(text.replace("@structure@", structure), structure, maps(table), dict(slots))


def server_name(position: int) -> str:
    """Return the name of a slot's server."""
    return f"s{position}"


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
        *(f"    {line}" for line in _own_errors()),
        "",
    ]


def _own_errors() -> Iterator[str]:
    """Answers that HAProxy gives by itself, in the shape that OpenAI's clients understand."""
    for status, code, message in (
        (400, "bad_request", "The request is not valid HTTP."),
        (408, "request_timeout", "The request did not arrive in time."),
        (500, "router_error", "The router could not handle the request."),
        (502, "bad_gateway", "The model server broke off."),
        (503, "unavailable", "No model server is ready to answer. Try again shortly."),
        (504, "gateway_timeout", "The model server did not answer in time."),
    ):
        yield f"http-error status {status} content-type application/json string {_error(status, code, message)}"


def _counters() -> list[str]:
    """Tables of counters; they begin anew with a reload, because HAProxy's local peers did not hand them over."""
    return [
        "backend clients_used",
        "    stick-table type string len 64 size 16k expire 10m store gpc0,gpc0_rate(60s),conn_cur",
        "",
        "backend revisions_used",
        "    stick-table type string len 80 size 1k expire 24h store http_req_cnt,http_fail_cnt,http_err_cnt",
        "",
    ]


def _frontend(table: Table, layout: Layout) -> list[str]:
    lines = [f"bind {layout.clients} proto h1"]
    if layout.certificate:
        lines.append(f"bind {layout.tls_clients} ssl crt {layout.certificate} alpn h2,http/1.1")
    lines += [
        *_identity(),
        *_paths(),
        *_key(table, layout),
        *_limits(layout),
        *_listing(layout),
        *_shape(),
        *_pin(layout),
        *_split(table, layout),
        *_forward(table, layout),
        *_answer(),
    ]
    return ["frontend clients", *(f"    {line}" for line in lines), ""]


def _identity() -> list[str]:
    return [
        "unique-id-format %[uuid()]",
        _refuse(
            431,
            "headers_too_large",
            "The headers are too large.",
            f"{{ req.hdrs,length gt {MAX_HEADER_BYTES} }}",
        ),
        _refuse(400, "bad_request", "A request has one Host header.", "{ req.fhdr_cnt(host) gt 1 }"),
        # HTTP/1.0 knows no chunks: HAProxy and a server behind it could differ about where such a body ends.
        _refuse(
            400,
            "bad_request",
            "HTTP/1.0 has no Transfer-Encoding.",
            "{ req.ver 1.0 } { req.fhdr(transfer-encoding) -m found }",
        ),
    ]


def _paths() -> list[str]:
    answers = " ".join(ANSWER_PATHS)
    return [
        f"acl to_model path -m str {answers}",
        "acl to_list path -m str /v1/models",
        "acl to_list path -m beg /v1/models/",
        "acl to_health path -m str /healthz",
        _refuse(404, "not_found", "There is nothing at this path.", "!to_model !to_list !to_health"),
        _refuse(
            405, "method_not_allowed", "This path takes POST.", "to_model !{ method POST }", {"Allow": "POST"}
        ),
        _refuse(
            405, "method_not_allowed", "This path takes GET.", "!to_model !{ method GET }", {"Allow": "GET"}
        ),
        "http-request return status 200 content-type text/plain string ok if to_health",
    ]


def _key(table: Table, layout: Layout) -> list[str]:
    if table.access.mode == "open":
        return ["http-request set-var(txn.client) str(anonymous)"]
    challenge = {"WWW-Authenticate": "Bearer"}
    return [
        _refuse(
            400,
            "bad_request",
            "A request has one Authorization header.",
            "{ req.hdr_cnt(authorization) gt 1 }",
        ),
        f"http-request set-var(txn.client) http_auth_bearer,sha2(256),hex,lower,map_str({layout.map_file(KEYS)})",
        _refuse(
            401,
            "invalid_api_key",
            "The API key is missing or wrong.",
            "!{ var(txn.client) -m found }",
            challenge,
        ),
    ]


def _limits(layout: Layout) -> list[str]:
    limits = layout.map_file(LIMITS)
    later = {"Retry-After": "1"}
    return [
        "http-request track-sc0 var(txn.client) table clients_used",
        f"http-request set-var(txn.limits) var(txn.client),map_str({limits})",
        "http-request set-var(txn.per_minute) var(txn.limits),field(1,:)",
        "http-request set-var(txn.at_once) var(txn.limits),field(2,:)",
        _refuse(
            429,
            "concurrency_limit",
            "Too many requests of this client are running.",
            "{ var(txn.at_once) -m int gt 0 } { sc0_conn_cur,sub(txn.at_once) -m int gt 0 }",
            later,
        ),
        _refuse(
            429,
            "rate_limit",
            "This client has sent too many requests in the last minute.",
            "{ var(txn.per_minute) -m int gt 0 } { sc0_gpc0_rate,sub(txn.per_minute) -m int ge 0 }",
            later,
        ),
        "http-request sc-inc-gpc0(0)",
    ]


def _listing(layout: Layout) -> list[str]:
    return [
        f"http-request set-var(txn.card) path,map_str({layout.map_file(CARDS)}) if to_list",
        _refuse(404, "model_not_found", "No such model.", "to_list !{ var(txn.card) -m found }"),
        "http-request return status 200 content-type application/json lf-string %[var(txn.card)] if to_list",
    ]


def _shape() -> list[str]:
    return [
        _refuse(
            415,
            "unsupported_media_type",
            "The body must be JSON: Content-Type application/json, no Content-Encoding.",
            "!{ req.fhdr(content-type),word(1,;\\ ),lower -m str application/json }",
        ),
        _refuse(
            415,
            "unsupported_media_type",
            "The body must be JSON: Content-Type application/json, no Content-Encoding.",
            "{ req.fhdr(content-encoding) -m found }",
        ),
        _refuse(
            413,
            "body_too_large",
            f"The body is above {MAX_BODY_BYTES} bytes.",
            f"{{ req.body_size gt {MAX_BODY_BYTES} }}",
        ),
        "http-request wait-for-body time 20s",
        _refuse(
            413,
            "body_too_large",
            f"A body above {_MAX_UNDECLARED_BODY_BYTES} bytes needs a Content-Length.",
            f"!{{ req.fhdr(content-length) -m found }} {{ req.body_len gt {_MAX_UNDECLARED_BODY_BYTES} }}",
        ),
    ]


def _pin(layout: Layout) -> list[str]:
    """Obey a pin or refuse it; never answer from another revision."""
    models, pins, unready = (layout.map_file(name) for name in ("models", "pins", "unready"))
    unknown = "No such revision or variant."
    return [
        _refuse(
            400, "bad_request", "Give one x-fettle-revision.", "{ req.fhdr_cnt(x-fettle-revision) gt 1 }"
        ),
        "http-request set-var(txn.model) req.body,json_query('$.model')",
        _refuse(
            404,
            "model_not_found",
            "No such model.",
            f"{{ var(txn.model) -m found }} !{{ var(txn.model),field(1,@),map_str({models}) -m found }}",
        ),
        "http-request set-var(txn.asked) req.fhdr(x-fettle-revision)",
        f"http-request set-var(txn.revision) var(txn.asked),map_str({pins})",
        _refuse(
            404, "revision_not_found", unknown, "{ var(txn.asked) -m found } !{ var(txn.revision) -m found }"
        ),
        "acl model_has_pin var(txn.model) -m sub @",
        f"http-request set-var(txn.by_model) var(txn.model),field(2,@,0),map_str({pins}) if model_has_pin",
        _refuse(404, "revision_not_found", unknown, "model_has_pin !{ var(txn.by_model) -m found }"),
        _refuse(
            400,
            "contradicting_revisions",
            "Header and model ask for different revisions.",
            "{ var(txn.by_model) -m found } { var(txn.revision) -m found } !{ var(txn.by_model),strcmp(txn.revision) eq 0 }",
        ),
        "http-request set-var(txn.revision) var(txn.by_model) if model_has_pin",
        "acl pinned var(txn.route) -m str pinned",
        "http-request set-var(txn.route) str(weighted)",
        "http-request set-var(txn.route) str(pinned) if { var(txn.revision) -m found }",
        _refuse(
            503,
            "revision_not_ready",
            "This revision is not loaded now.",
            f"pinned {{ var(txn.revision),map_str({unready}) -m found }}",
            {"Retry-After": "5"},
        ),
    ]


def _split(table: Table, layout: Layout) -> list[str]:
    """Place a request that is not pinned; `fettle_router.split` says the same in Python."""
    arms, splits = layout.map_file(ARMS), layout.map_file("splits")
    sources = [f"req.fhdr({header})" for header in (table.sticky.header, "x-session-id") if header]
    if table.sticky.by_client and table.access.mode == "keys":
        sources.append("var(txn.client)")
    return [
        "acl sticky var(txn.sticky) -m found",
        *(f"http-request set-var(txn.sticky) {source} if !pinned !sticky" for source in sources),
        *_slot(f":{table.variant_salt}"),
        f"http-request set-var(txn.arm) var(txn.slot),map_int({arms}) if !pinned",
        f"http-request set-var(txn.split) var(txn.arm),map_str({splits}) if !pinned",
        "http-request set-var(txn.below) var(txn.split),field(1,:) if !pinned",
        "http-request set-var(txn.salt) var(txn.split),field(2,:) if !pinned",
        *_slot(":,txn.salt"),
        "acl candidate var(txn.slot),sub(txn.below) -m int lt 0",
        "http-request set-var(txn.revision) var(txn.split),field(4,:) if !pinned !candidate",
        "http-request set-var(txn.revision) var(txn.split),field(3,:) if !pinned candidate",
    ]


def _slot(salt: str) -> list[str]:
    return [
        f"http-request set-var(txn.slot) rand({SLOTS}) if !pinned !sticky",
        f"http-request set-var(txn.slot) var(txn.sticky),concat({salt}),xxh32,mod({SLOTS}) if !pinned sticky",
    ]


def _forward(table: Table, layout: Layout) -> list[str]:
    return [
        "http-request track-sc1 var(txn.revision),concat(/,txn.route) table revisions_used",
        *(f"http-request del-header {header}" for header in _HEADERS_THAT_STAY_HERE),
        *(f"http-request del-header {prefix} -m beg" for prefix in _PREFIXES_THAT_STAY_HERE),
        "http-request set-header x-fettle-revision %[var(txn.revision)]",
        "http-request set-header x-fettle-route %[var(txn.route)]",
        "http-request set-header x-fettle-client %[var(txn.client)]",
        "http-request set-header x-request-id %[unique-id]",
        # The path was compared as a whole; the query and the name in an absolute URL were not.
        "http-request set-uri %[path]",
        f"http-request set-header host {table.deployment}",
        f"use_backend %[var(txn.revision),map_str({layout.map_file('pools')})]",
    ]


def _answer() -> list[str]:
    return [
        "http-response del-header x-fettle- -m beg",
        "http-after-response set-header x-request-id %[unique-id]",
        "http-after-response set-header x-fettle-revision %[var(txn.revision)] if { var(txn.revision) -m found }",
        "http-after-response set-header x-fettle-route %[var(txn.route)] if { var(txn.revision) -m found }",
    ]


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


def _refuse(
    status: int, code: str, message: str, condition: str, headers: Mapping[str, str] | None = None
) -> str:
    words = [f"http-request return status {status} content-type application/json"]
    words.append(f"string {_error(status, code, message)}")
    words += [f"hdr {name} {value}" for name, value in (headers or {}).items()]
    return " ".join([*words, f"if {condition}"])


def _error(status: int, code: str, message: str) -> str:
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "server_error"
    )
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return f"'{json.dumps(body, separators=(',', ':'))}'"
