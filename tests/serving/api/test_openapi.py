"""What the OpenAPI document promises is what the server does, for requests that nobody thought of."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from fettle_server.api.names import Names
from fettle_server.api.request_log import RequestLog
from fettle_server.api.serving import Serving
from fettle_server.app import public_app
from scripted_engine import ScriptedEngine

APP = RequestLog(public_app(Serving(ScriptedEngine(), started=True), Names("tiny", "base")))
schema = schemathesis.openapi.from_asgi("/openapi.json", APP)
MODELS = ("tiny", "base", "tiny@base", "other")


@schema.hook
def map_body(_context: object, body: Any) -> Any:
    """Ask for models that are there, mostly: all names but a few are unknown."""
    model = body.get("model") if isinstance(body, dict) else None
    if isinstance(model, str) and 0 < len(model) < 200:
        return {**body, "model": MODELS[len(model) % len(MODELS)]}
    return body


# A request can be of the right shape and still ask for what cannot be had: a model that is not there, a prompt
# that the template refuses, two parameters that contradict each other.
NOT_PROMISED = [positive_data_acceptance]


@schema.parametrize()
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_requests_of_every_kind_are_answered_as_documented(case: schemathesis.Case) -> None:
    case.call_and_validate(excluded_checks=NOT_PROMISED)
