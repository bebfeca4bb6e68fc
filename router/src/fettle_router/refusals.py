"""What the router answers by itself when it does not pass a request on, in the shape that OpenAI's clients understand."""

import json
from collections.abc import Iterator, Mapping

__all__ = ["own_errors", "refuse"]


def refuse(
    status: int, code: str, message: str, condition: str, headers: Mapping[str, str] | None = None
) -> str:
    """Return a rule that answers instead of passing on."""
    words = [f"http-request return status {status} content-type application/json"]
    words.append(f"string {_error(status, code, message)}")
    words += [f"hdr {name} {value}" for name, value in (headers or {}).items()]
    return " ".join([*words, f"if {condition}"])


def own_errors() -> Iterator[str]:
    """Yield the answers that HAProxy gives without a rule."""
    for status, code, message in (
        (400, "bad_request", "The request is not valid HTTP."),
        (408, "request_timeout", "The request did not arrive in time."),
        (500, "router_error", "The router could not handle the request."),
        (502, "bad_gateway", "The model server broke off."),
        (503, "unavailable", "No model server is ready to answer. Try again shortly."),
        (504, "gateway_timeout", "The model server did not answer in time."),
    ):
        yield f"http-error status {status} content-type application/json string {_error(status, code, message)}"


def _error(status: int, code: str, message: str) -> str:
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error" if status < 500 else "server_error"
    )
    body = {"error": {"message": message, "type": kind, "param": None, "code": code}}
    return f"'{json.dumps(body, separators=(',', ':'))}'"
