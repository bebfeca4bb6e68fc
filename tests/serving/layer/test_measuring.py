"""Requests as the layer sees them from outside, by the lines that Prometheus gets."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import Any

import pytest

from asgi_calls import Call, Exchange, Reply, app_of, call, scope, until
from fettle_server.engine.types import AdapterState, Load
from fettle_server.layer.facts import facts_of
from fettle_server.layer.stack import Layer, around_engine
from fettle_server.layer.surroundings import EngineNames, Surroundings

CHAT = "/v1/chat/completions"
REVISIONS = {"base", "rev-a", "rev-b"}


def around() -> Surroundings:
    return Surroundings(lambda: REVISIONS, lambda: False)


def value(layer: Layer, name: str, **labels: str) -> float:
    return layer.metrics.registry.get_sample_value(name, labels) or 0.0


def subject(revision: str = "rev-a", role: str = "stable", route: str = "weighted") -> dict[str, str]:
    return {"revision": revision, "role": role, "route": route}


async def three_words(exchange: Exchange) -> None:
    await exchange.receive()
    facts = facts_of(exchange.scope)
    facts.revision = dict(exchange.scope["headers"]).get(b"x-fettle-revision", b"").decode()
    facts.tokens_in, facts.response_id = 7, "chatcmpl-1"
    await exchange.start()
    for word in ("one ", "two ", "three"):
        facts.said(word)
        await exchange.write(word.encode())
    facts.finished("stop")
    await exchange.write(b"", last=True)


stream = app_of(three_words)


async def test_an_answer_is_counted_by_revision_role_and_route() -> None:
    layer = Layer(stream, around())
    reply = await call(
        layer, "POST", CHAT, {}, x_fettle_revision="rev-a", x_fettle_role="stable", x_fettle_route="weighted"
    )
    assert reply.body == b"one two three"
    assert value(layer, "fettle_server_requests_total", **subject(), code="200") == 1
    assert value(layer, "fettle_server_prompt_tokens_total", **subject()) == 7
    assert value(layer, "fettle_server_generation_tokens_total", **subject()) == 3
    assert value(layer, "fettle_server_time_to_first_token_seconds_count", **subject()) == 1
    assert value(layer, "fettle_server_inter_token_latency_seconds_count", **subject()) == 2
    assert value(layer, "fettle_server_request_duration_seconds_count", **subject()) == 1
    assert value(layer, "fettle_server_answers_total", **subject(), finish_reason="stop") == 1


async def test_nothing_that_a_client_sent_becomes_a_label() -> None:
    layer = Layer(stream, around())
    for number in range(50):
        headers = {
            "x_fettle_revision": f"made-up-{number}",
            "x_fettle_role": f"r{number}",
            "x_fettle_route": f"w{number}",
        }
        await call(layer, "POST", CHAT, {}, **headers)
    assert value(layer, "fettle_server_requests_total", **subject("other", "", "direct"), code="200") == 50
    assert b"made-up" not in layer.metrics.exposition()


async def test_chunks_pass_one_by_one_while_the_answer_is_made() -> None:
    turn = asyncio.Event()

    async def slowly(exchange: Exchange) -> None:
        await exchange.start()
        await exchange.write(b"first")
        await turn.wait()
        await exchange.write(b"second", last=True)

    layer, sent = Layer(app_of(slowly), around()), Call(Reply())
    task = asyncio.create_task(layer(scope("POST", CHAT), sent.receive, sent.send))
    await until(lambda: sent.reply.chunks)
    assert sent.reply.body == b"first"
    assert sum(layer.metrics.in_flight().values()) == 1
    turn.set()
    await task
    assert sent.reply.body == b"firstsecond"
    assert layer.metrics.in_flight() == {}


async def raises_in_the_middle(exchange: Exchange) -> None:
    await exchange.start()
    await exchange.write(b"half")
    raise RuntimeError


async def ends_without_an_answer(exchange: Exchange) -> None:
    await exchange.start()


async def says_that_it_failed(exchange: Exchange) -> None:
    await exchange.start()
    facts_of(exchange.scope).failed = True
    await exchange.write(b"error", last=True)


async def notices_that_nobody_listens(exchange: Exchange) -> None:
    await exchange.receive()
    await exchange.start()
    assert (await exchange.receive())["type"] == "http.disconnect"


async def refuses(exchange: Exchange) -> None:
    await exchange.start(429)
    await exchange.write(b"later", last=True)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        (raises_in_the_middle, "500"),
        (ends_without_an_answer, "500"),
        (says_that_it_failed, "500"),
        (notices_that_nobody_listens, "499"),
        (refuses, "429"),
    ],
)
async def test_the_code_says_what_became_of_a_request(script: Any, code: str) -> None:
    layer, sent = Layer(app_of(script), around()), Call(Reply())
    sent.hang_up()
    with contextlib.suppress(RuntimeError):
        await layer(scope("POST", CHAT), sent.receive, sent.send)
    assert value(layer, "fettle_server_requests_total", **subject("other", "", "direct"), code=code) == 1
    assert layer.metrics.in_flight() == {}


async def test_other_paths_are_passed_on_and_not_counted() -> None:
    layer = Layer(stream, around())
    assert (await call(layer, "GET", "/v1/models")).status == 200
    assert b"fettle_server_requests_total{" not in layer.metrics.exposition()


async def test_an_answer_can_be_rated_as_soon_as_it_begins() -> None:
    layer = Layer(stream, around())
    thumbs: list[int] = []

    async def eager(_message: Any) -> None:
        if not thumbs:
            rated = await call(layer, "POST", "/feedback", {"id": "chatcmpl-1", "rating": "up"})
            thumbs.append(rated.status)

    await layer(scope("POST", CHAT, {"x-fettle-revision": "rev-b"}), Call(Reply()).receive, eager)
    assert thumbs == [200]
    assert value(layer, "fettle_server_feedback_total", **subject("rev-b", "", "direct"), rating="up") == 1


async def test_signals_are_counted_for_finished_answers_only() -> None:
    def saying(text: str, finish: str) -> Any:
        async def script(exchange: Exchange) -> None:
            facts = facts_of(exchange.scope)
            facts.revision, facts.wants_json = "rev-a", True
            facts.said(text)
            if finish:
                facts.finished(finish)
            await exchange.start()
            await exchange.write(b"{}", last=True)

        return app_of(script)

    counted = {}
    for name, app in {
        "json": saying('{"a": 1}', "stop"),
        "prose": saying("here you are", "stop"),
        "cut": saying('{"a": ', "length"),
        "cancelled": saying('{"a": ', ""),
    }.items():
        layer = Layer(app, around())
        await call(layer, "POST", CHAT, {})
        labels = subject("rev-a", "", "direct")
        counted[name] = [
            signal
            for signal in ("json_valid", "json_invalid", "empty")
            if value(layer, "fettle_server_answer_signals_total", **labels, signal=signal)
        ]
    assert counted == {"json": ["json_valid"], "prose": ["json_invalid"], "cut": [], "cancelled": []}


@dataclass
class ScriptedEngine:
    state: Load = field(
        default_factory=lambda: Load(1, 0, 0.25, 8, 16, {"base": 1, "rev-a": 2}, {"rev-b": 3})
    )

    def load(self) -> Load:
        return self.state

    def adapters(self) -> list[AdapterState]:
        return [AdapterState(name, "sha256:" + 64 * "0", "Ready") for name in ("rev-a", "rev-b")]


async def test_what_scrapes_vllm_finds_its_names() -> None:
    layer = around_engine(stream, ScriptedEngine(), EngineNames("bot", "base", 4))
    await call(layer, "POST", CHAT, {}, x_fettle_revision="rev-a", x_fettle_route="weighted")
    await call(layer, "POST", CHAT, {}, x_fettle_revision="rev-b", x_fettle_route="mirror")
    text = (await call(layer, "GET", "/metrics")).body.decode()
    for line in (
        'vllm:num_requests_running{model_name="bot"} 1.0',
        'vllm:num_requests_waiting{model_name="bot"} 0.0',
        'vllm:kv_cache_usage_perc{model_name="bot"} 0.25',
        'vllm:request_success_total{finished_reason="stop",model_name="bot"} 1.0',
        'vllm:prompt_tokens_total{model_name="bot"} 7.0',
        'vllm:generation_tokens_total{model_name="bot"} 3.0',
        'vllm:time_to_first_token_seconds_count{model_name="bot"} 1.0',
        'vllm:inter_token_latency_seconds_count{model_name="bot"} 2.0',
        'vllm:e2e_request_latency_seconds_count{model_name="bot"} 1.0',
        'fettle_server_queued{revision="rev-b"} 3.0',
        'fettle_server_running{revision="rev-a"} 2.0',
    ):
        assert line in text.splitlines(), line
    info = (
        'vllm:lora_requests_info{max_lora="4",running_lora_adapters="rev-a",waiting_lora_adapters="rev-b"} '
    )
    assert info in text
    assert "process_resident_memory_bytes" in text


def test_the_last_of_too_many_revisions_are_counted_together() -> None:
    known = {f"rev-{number}" for number in range(1500)}
    layer = Layer(stream, Surroundings(lambda: known, lambda: False))
    for name in sorted(known):
        layer.metrics.shadowed(name, "answered")
    assert value(layer, "fettle_server_shadow_requests_total", revision="other", outcome="answered") == 500
