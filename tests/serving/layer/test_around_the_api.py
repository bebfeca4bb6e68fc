"""The layer around the API of our own server: what the two leave for each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from asgi_calls import Reply, call, until
from fettle_server.admin import admin_app
from fettle_server.api.names import Names
from fettle_server.api.serving import Serving
from fettle_server.app import public_app
from fettle_server.engine.types import AdapterState, DroppedError
from fettle_server.layer.admin_routes import ShadowEndpoint
from fettle_server.layer.stack import Layer, around_engine
from fettle_server.layer.surroundings import EngineNames
from scripted_engine import ScriptedEngine, answer

NAMES = Names("tiny", "base")
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}


class Server:
    """Both ports, without a wire."""

    def __init__(self, *answers: Any) -> None:
        ready = [AdapterState(name, "sha256:" + 64 * "0", "Ready") for name in ("rev-a", "rev-s")]
        self.engine = ScriptedEngine(*answers, adapters=ready)
        serving = Serving(self.engine, started=True)
        self.layer: Layer = around_engine(
            public_app(serving, NAMES), self.engine, EngineNames("tiny", "base", 4)
        )
        self.admin = admin_app(serving, NAMES, Path("/adapters"), ShadowEndpoint(self.layer.shadow))

    async def chat(self, revision: str, **more: Any) -> Reply:
        headers = {"x_fettle_revision": revision, "x_fettle_route": "weighted"}
        return await call(self.layer, "POST", "/v1/chat/completions", {**CHAT, **more}, **headers)

    def value(self, name: str, revision: str, route: str = "weighted", **labels: str) -> float | None:
        role = "shadow" if route == "mirror" else ""
        subject = {"revision": revision, "role": role, "route": route}
        return self.layer.metrics.registry.get_sample_value(f"fettle_server_{name}", {**subject, **labels})


async def test_an_answer_of_the_api_is_measured_and_can_be_rated() -> None:
    server = Server()
    reply = (await server.chat("rev-a")).json()
    assert server.value("requests_total", "rev-a", code="200") == 1
    assert server.value("generation_tokens_total", "rev-a") == reply["usage"]["completion_tokens"]
    assert server.value("prompt_tokens_total", "rev-a") == reply["usage"]["prompt_tokens"]
    assert server.value("time_to_first_token_seconds_count", "rev-a") == 1
    assert server.value("answers_total", "rev-a", finish_reason="stop") == 1
    thumb = await call(server.layer, "POST", "/feedback", {"id": reply["id"], "rating": "down"})
    assert thumb.status == 200
    assert server.value("feedback_total", "rev-a", rating="down") == 1


async def test_a_stream_of_the_api_is_measured_by_token() -> None:
    server = Server(answer("four"))
    reply = await server.chat("rev-a", stream=True)
    assert reply.body.endswith(b"data: [DONE]\n\n")
    assert server.value("inter_token_latency_seconds_count", "rev-a") == 3
    assert server.value("generation_tokens_total", "rev-a") == 4


async def test_a_revision_that_is_not_served_is_counted_under_no_name_of_the_clients() -> None:
    server = Server()
    assert (await server.chat("evil-label")).status == 404
    assert server.value("requests_total", "other", code="404") == 1


async def test_the_operator_turns_shadow_copies_on_over_its_port() -> None:
    server = Server()
    put = await call(server.admin, "PUT", "/shadow", {"revision": "rev-s", "percent": 100})
    assert put.status == 200
    assert (await server.chat("rev-a")).status == 200
    await until(lambda: server.layer.shadow.outcomes["answered"] == 1)
    assert [revision for revision, _, _ in server.engine.asked] == ["rev-a", "rev-s"]
    assert server.value("requests_total", "rev-s", "mirror", code="200") == 1
    assert server.value("requests_total", "rev-s") is None


async def test_a_copy_that_the_engine_drops_is_counted_as_dropped() -> None:
    server = Server(answer("fine"), [DroppedError()])
    await call(server.admin, "PUT", "/shadow", {"revision": "rev-s", "percent": 100})
    await server.chat("rev-a")
    await until(lambda: server.layer.shadow.outcomes["dropped"] == 1)
