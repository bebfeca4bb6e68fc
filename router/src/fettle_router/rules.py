"""The rules that every request passes, in HAProxy 2.6's language. Pure.

They run in this order, and each one may answer instead of passing on: size and framing, path and method, key, limits,
shape, rating, pin, split. Only then are the headers rewritten and a pool chosen. Nothing that a client sends is used
without having been found in a map, the sticky value apart, which is only hashed.

HAProxy interprets each line for each request, so their number is what the router costs (`benchmarks/router`). A line
therefore begins with the condition that is cheapest to find untrue, and a value that is looked up once is kept in a
variable.
"""

from collections.abc import Iterator
from typing import Final

from fettle_router.layout import Layout
from fettle_router.maps import ARMS, CARDS, KEYS, LIMITS
from fettle_router.refusals import refuse
from fettle_router.table import ANONYMOUS, SLOTS, Table

__all__ = ["ANSWER_PATHS", "FEEDBACK_PATH", "counters", "rules"]

ANSWER_PATHS: Final = ("/v1/chat/completions", "/v1/completions", "/score")
"""Where a model answers."""
FEEDBACK_PATH: Final = "/feedback"
"""Where an answer is rated, at the pod that gave it."""

MAX_HEADER_BYTES: Final = 16_384
MAX_BODY_BYTES: Final = 1_048_576
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


def counters() -> list[str]:
    """Return the tables of counters; they begin anew with a reload, because local peers did not hand them over."""
    return [
        "backend clients_used",
        "    stick-table type string len 64 size 16k expire 10m store gpc0,gpc0_rate(60s),conn_cur",
        "",
        "backend revisions_used",
        "    stick-table type string len 80 size 1k expire 24h store http_req_cnt,http_fail_cnt,http_err_cnt",
        "",
    ]


def rules(table: Table, layout: Layout) -> Iterator[str]:
    """Yield the rules of the frontend for clients."""
    yield from _framing()
    yield from _paths()
    yield from _key(table, layout)
    yield from _limits(layout)
    yield from _listing(layout)
    yield from _shape()
    yield from _rating(layout)
    yield from _pin(layout)
    yield from _split(table, layout)
    yield from _forward(table, layout)
    yield from _answer()


def _framing() -> Iterator[str]:
    yield "unique-id-format %[uuid()]"
    yield refuse(
        431,
        "headers_too_large",
        "The headers are too large.",
        # What has arrived of headers and body together is known without adding up the headers.
        f"{{ internal.htx.data gt {MAX_HEADER_BYTES} }} {{ req.hdrs,length gt {MAX_HEADER_BYTES} }}",
    )
    yield refuse(400, "bad_request", "A request has one Host header.", "{ req.fhdr_cnt(host) gt 1 }")
    # HTTP/1.0 knows no chunks: HAProxy and a server behind it could differ about where such a body ends.
    yield refuse(
        400,
        "bad_request",
        "HTTP/1.0 has no Transfer-Encoding.",
        "{ req.ver 1.0 } { req.fhdr(transfer-encoding) -m found }",
    )


def _paths() -> Iterator[str]:
    yield f"acl is_written path -m str {' '.join((*ANSWER_PATHS, FEEDBACK_PATH))}"
    yield "acl is_listed path -m str /v1/models"
    yield "acl is_listed path -m beg /v1/models/"
    yield "acl is_health path -m str /healthz"
    yield "acl posted method POST"
    yield refuse(404, "not_found", "There is nothing at this path.", "!is_written !is_listed !is_health")
    yield refuse(405, "method_not_allowed", "This path takes POST.", "!posted is_written", {"Allow": "POST"})
    yield refuse(
        405, "method_not_allowed", "This path takes GET.", "!is_written !{ method GET }", {"Allow": "GET"}
    )
    yield "http-request return status 200 content-type text/plain string ok if !posted is_health"


def _key(table: Table, layout: Layout) -> Iterator[str]:
    if table.access.mode == "open":
        yield f"http-request set-var(txn.client) str({ANONYMOUS})"
        return
    yield refuse(
        400,
        "bad_request",
        "A request has one Authorization header.",
        "{ req.hdr_cnt(authorization) gt 1 }",
    )
    found = f"http_auth_bearer,sha2(256),hex,lower,map_str({layout.map_file(KEYS)})"
    yield f"http-request set-var(txn.client) {found}"
    yield refuse(
        401,
        "invalid_api_key",
        "The API key is missing or wrong.",
        "!{ var(txn.client) -m found }",
        {"WWW-Authenticate": "Bearer"},
    )


def _limits(layout: Layout) -> Iterator[str]:
    """Hold a client to its limits; who has none is not counted."""
    later = {"Retry-After": "1"}
    yield f"http-request set-var(txn.limits) var(txn.client),map_str({layout.map_file(LIMITS)})"
    yield "acl limited var(txn.limits) -m found"
    yield "http-request track-sc0 var(txn.client) table clients_used if limited"
    yield "http-request set-var(txn.per_minute) var(txn.limits),field(1,:) if limited"
    yield "http-request set-var(txn.at_once) var(txn.limits),field(2,:) if limited"
    yield refuse(
        429,
        "concurrency_limit",
        "Too many requests of this client are running.",
        "limited { sc0_conn_cur,sub(txn.at_once) -m int gt 0 }",
        later,
    )
    yield refuse(
        429,
        "rate_limit",
        "This client has sent too many requests in the last minute.",
        "limited { sc0_gpc0_rate,sub(txn.per_minute) -m int ge 0 }",
        later,
    )
    yield "acl spent var(txn.limits),field(3,:) -m int gt 0"
    yield "http-request set-var(txn.now) date if spent"
    yield "http-request set-var(txn.wait) var(txn.limits),field(3,:),sub(txn.now) if spent"
    yield refuse(
        429,
        "token_limit",
        "This client has used up its tokens of the last minute.",
        "{ var(txn.wait) -m int gt 0 }",
        {"Retry-After": "%[var(txn.wait)]"},
    )
    yield "http-request sc-inc-gpc0(0) if limited"


def _listing(layout: Layout) -> Iterator[str]:
    """Answer `/v1/models`: what is left of the requests that do not post anything."""
    yield f"http-request set-var(txn.card) path,map_str({layout.map_file(CARDS)}) if !posted"
    yield refuse(404, "model_not_found", "No such model.", "!posted !{ var(txn.card) -m found }")
    yield "http-request return status 200 content-type application/json lf-string %[var(txn.card)] if !posted"


def _shape() -> Iterator[str]:
    no_json = "The body must be JSON: Content-Type application/json, no Content-Encoding."
    kind = "req.fhdr(content-type)"
    yield refuse(
        415,
        "unsupported_media_type",
        no_json,
        f"!{{ {kind} -m str application/json }} !{{ {kind},word(1,;\\ ),lower -m str application/json }}",
    )
    yield refuse(415, "unsupported_media_type", no_json, "{ req.fhdr(content-encoding) -m found }")
    yield refuse(
        413,
        "body_too_large",
        f"The body is above {MAX_BODY_BYTES} bytes.",
        f"{{ req.body_size gt {MAX_BODY_BYTES} }}",
    )
    yield "http-request wait-for-body time 20s"
    yield refuse(
        413,
        "body_too_large",
        f"A body above {_MAX_UNDECLARED_BODY_BYTES} bytes needs a Content-Length.",
        f"{{ req.body_len gt {_MAX_UNDECLARED_BODY_BYTES} }} !{{ req.fhdr(content-length) -m found }}",
    )


def _rating(layout: Layout) -> Iterator[str]:
    """Find the pod that gave an answer by the end of the answer's id."""
    pods = layout.map_file("pods")
    yield f"acl is_rating path -m str {FEEDBACK_PATH}"
    yield f"http-request set-var(txn.pod) req.body,json_query('$.id'),field(-1,-),map_str({pods}) if is_rating"
    yield refuse(
        404,
        "unknown_response",
        "No pod that serves now gave an answer of that id.",
        "is_rating !{ var(txn.pod) -m found }",
    )


def _pin(layout: Layout) -> Iterator[str]:
    """Obey a pin or refuse it; never answer from another revision."""
    models, pins, unready = (layout.map_file(name) for name in ("models", "pins", "unready"))
    unknown = "No such revision or variant."
    yield "acl asked var(txn.asked) -m found"
    yield "acl named var(txn.model) -m found"
    yield "acl named_pin var(txn.model) -m sub @"
    yield "http-request set-var(txn.asked) req.fhdr(x-fettle-revision)"
    yield refuse(
        400, "bad_request", "Give one x-fettle-revision.", "asked { req.fhdr_cnt(x-fettle-revision) gt 1 }"
    )
    yield "http-request set-var(txn.model) req.body,json_query('$.model')"
    yield refuse(
        404,
        "model_not_found",
        "No such model.",
        f"named !{{ var(txn.model),field(1,@),map_str({models}) -m found }}",
    )
    yield f"http-request set-var(txn.revision) var(txn.asked),map_str({pins}) if asked"
    yield refuse(404, "revision_not_found", unknown, "asked !{ var(txn.revision) -m found }")
    yield f"http-request set-var(txn.by_model) var(txn.model),field(2,@,0),map_str({pins}) if named_pin"
    yield refuse(404, "revision_not_found", unknown, "named_pin !{ var(txn.by_model) -m found }")
    yield refuse(
        400,
        "contradicting_revisions",
        "Header and model ask for different revisions.",
        "asked named_pin !{ var(txn.by_model),strcmp(txn.revision) eq 0 }",
    )
    yield "http-request set-var(txn.revision) var(txn.by_model) if named_pin"
    yield "http-request set-var(txn.route) str(weighted)"
    yield "http-request set-var(txn.route) str(pinned) if { var(txn.revision) -m found }"
    yield refuse(
        503,
        "revision_not_ready",
        "This revision is not loaded now.",
        f"{{ var(txn.revision),map_str({unready}) -m found }}",
        {"Retry-After": "5"},
    )


def _split(table: Table, layout: Layout) -> Iterator[str]:
    """Place a request that is not pinned; `fettle_router.split` says the same in Python.

    What is pinned runs through it as well, and keeps its revision: that is cheaper than to ask each time. Without
    anything to stick to, a random number is placed as if it were a caller.
    """
    sources = [f"req.fhdr({header})" for header in (table.sticky.header, "x-session-id") if header]
    by_client = table.sticky.by_client and table.access.mode == "keys"
    sources.append("var(txn.client)" if by_client else "rand()")
    for source in sources:
        yield f"http-request set-var(txn.sticky,ifnotexists) {source}"
    placed = f"xxh32,mod({SLOTS})"
    arms = layout.map_file(ARMS)
    yield f"http-request set-var(txn.arm) var(txn.sticky),concat(:{table.variant_salt}),{placed},map_int({arms})"
    yield "http-request set-var(txn.below) var(txn.arm),field(1,:)"
    yield "http-request set-var(txn.salt) var(txn.arm),field(2,:)"
    yield f"acl candidate var(txn.sticky),concat(:,txn.salt),{placed},sub(txn.below) -m int lt 0"
    yield "http-request set-var(txn.revision,ifnotexists) var(txn.arm),field(3,:) if candidate"
    yield "http-request set-var(txn.revision,ifnotexists) var(txn.arm),field(4,:)"


def _forward(table: Table, layout: Layout) -> Iterator[str]:
    # No revision answers a rating, so none is counted, and none is named.
    yield "http-request unset-var(txn.revision) if { var(txn.pod) -m found }"
    yield "http-request track-sc1 var(txn.revision),concat(/,txn.route) table revisions_used"
    yield f"http-request set-var(txn.place) var(txn.revision),map_str({layout.map_file('revisions')})"
    for header in _HEADERS_THAT_STAY_HERE:
        yield f"http-request del-header {header}"
    for prefix in _PREFIXES_THAT_STAY_HERE:
        yield f"http-request del-header {prefix} -m beg"
    yield "http-request add-header x-fettle-revision %[var(txn.revision)]"
    yield "http-request add-header x-fettle-role %[var(txn.place),field(2,/)]"
    yield "http-request add-header x-fettle-route %[var(txn.route)]"
    yield "http-request add-header x-fettle-client %[var(txn.client)]"
    yield "http-request set-header x-request-id %[unique-id]"
    # The path was compared as a whole; the query and the name in an absolute URL were not.
    yield f"http-request set-uri %[path] if !{{ url -m str {' '.join((*ANSWER_PATHS, FEEDBACK_PATH))} }}"
    yield f"http-request set-header host {table.deployment}"
    yield "use_backend %[var(txn.pod),field(1,/)] if { var(txn.pod) -m found }"
    yield "use_backend %[var(txn.place),field(1,/)]"


def _answer() -> Iterator[str]:
    # HAProxy itself passes on any number that a pod writes there.
    yield "http-response deny deny_status 502 unless { status 100:599 }"
    yield "http-response del-header x-fettle- -m beg"
    yield "acl chosen var(txn.revision) -m found"
    yield "http-after-response set-header x-request-id %[unique-id]"
    yield "http-after-response set-header x-fettle-revision %[var(txn.revision)] if chosen"
    yield "http-after-response set-header x-fettle-route %[var(txn.route)] if chosen"
