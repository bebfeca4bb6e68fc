"""What the OpenAPI document promises is what the server does, for requests that nobody thought of.

The suite asks a few hundred times, always the same. FETTLE_API_EXAMPLES asks each path so many times, at random:
`FETTLE_API_EXAMPLES=2500 $(scripts/model_venv.sh) -m pytest -q tests/serving/api/test_openapi.py` is above 10,000 requests.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.specs.openapi.checks import negative_data_rejection, positive_data_acceptance

from fettle_server.api.names import Names
from fettle_server.api.openapi import document
from fettle_server.api.request_log import RequestLog
from fettle_server.api.serving import Serving
from fettle_server.app import public_app
from scripted_engine import ScriptedEngine

EXAMPLES = int(os.environ.get("FETTLE_API_EXAMPLES", "0"))
SERVER = RequestLog(public_app(Serving(ScriptedEngine(), started=True), Names("tiny", "base")))
ANSWERED: Counter[int] = Counter()


async def APP(scope: Any, receive: Any, send: Any) -> None:  # noqa: N802 - a constant that has to be a function
    """Count what the server answers."""

    async def counted(message: Any) -> None:
        if message["type"] == "http.response.start":
            ANSWERED[message["status"]] += 1
        await send(message)

    await SERVER(scope, receive, counted)


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
DOCUMENT = document()


@schemathesis.check
def what_violates_is_refused(ctx: Any, response: Any, case: schemathesis.Case) -> None:
    """Hold the server to refuse what its document forbids.

    A body made to violate one of several alternatives may be what another one asks for; then it is no violation.
    """
    try:
        negative_data_rejection(ctx, response, case)
    except AcceptedNegativeData as failure:
        if "in body" not in failure.message or not fits(case):
            raise


def fits(case: schemathesis.Case) -> bool:
    """Say whether a body is what the document asks for."""
    asked = DOCUMENT["paths"][case.path][case.method.lower()]["requestBody"]["content"]["application/json"]
    return jsonschema_rs.is_valid({**asked["schema"], "components": DOCUMENT["components"]}, case.body)


@pytest.fixture(scope="module", autouse=True)
def totals(request: pytest.FixtureRequest) -> Iterator[None]:
    """Say how many requests it were, when many were asked for."""
    yield
    if EXAMPLES:
        reporter = request.config.pluginmanager.get_plugin("terminalreporter")
        assert reporter is not None
        told = ", ".join(f"{status}: {count}" for status, count in sorted(ANSWERED.items()))
        reporter.write_line(f"\n{ANSWERED.total()} requests were answered ({told})")


@schema.parametrize()
@settings(
    max_examples=EXAMPLES or 40,
    deadline=None,
    derandomize=not EXAMPLES,
    suppress_health_check=list(HealthCheck),
)
def test_requests_of_every_kind_are_answered_as_documented(case: schemathesis.Case) -> None:
    case.call_and_validate(
        excluded_checks=[*NOT_PROMISED, negative_data_rejection], additional_checks=[what_violates_is_refused]
    )
