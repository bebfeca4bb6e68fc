"""What goes over the wire when something is wrong: the request, the engine, or the client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from fettle_server.api import responses
from fettle_server.api.body import BodyLimits
from fettle_server.api.serving import Serving
from fettle_server.engine.types import (
    AdapterState,
    EngineError,
    GenerationFailedError,
    PromptTooLongError,
    QueueFullError,
    RevisionNotReadyError,
    ShuttingDownError,
)
from scripted_engine import ScriptedEngine, Step, answer, piece

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
JSON = {"content-type": "application/json"}
DIGEST = f"sha256:{'0' * 64}"
DEADLINE_S = 20


def refusal(response: httpx.Response) -> tuple[int, str]:
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return response.status_code, error["code"]


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - the server has nothing to be told by
            await asyncio.sleep(0.01)


def events(text: str) -> list[Any]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"{}", {"content-type": "text/plain"}, (415, "unsupported_media_type")),
        (b"{}", {**JSON, "content-encoding": "gzip"}, (415, "unsupported_media_type")),
        (b"{}", {"content-type": "Application/JSON; charset=utf-8"}, (400, "missing_required_parameter")),
        (b'{"model": ', JSON, (400, "invalid_json")),
        (b'{"model": NaN}', JSON, (400, "invalid_json")),
        (b'{"model": "a", "model": "b"}', JSON, (400, "invalid_json")),
        (b'{"model": "\\ud800"}', JSON, (400, "invalid_json")),
        (b'{"model": "\xff"}', JSON, (400, "invalid_json")),
        (b"[]", JSON, (400, "invalid_json")),
        (b'{"tools": ' + b"[" * 32 + b"]" * 32 + b"}", JSON, (400, "nested_too_deeply")),
        (b"[" * 100_000, JSON, (400, "invalid_json")),
        (b" " * 2000, JSON, (413, "body_too_large")),
    ],
)
async def test_a_body_that_is_no_request_is_refused(
    ask: Any, body: bytes, headers: dict[str, str], expected: tuple[int, str]
) -> None:
    limits = BodyLimits(size=200_000 if len(body) > 2000 else 1000)
    async with ask(ScriptedEngine(), limits) as client:
        response = await client.post("/v1/chat/completions", content=body, headers=headers)
        assert refusal(response) == expected


async def test_a_body_in_chunks_is_bounded_too(serve: Any) -> None:
    async def endless() -> Any:
        for _ in range(64):
            yield b" " * 1000

    async with serve(ScriptedEngine(), BodyLimits(size=10_000)) as client:
        response = await client.post("/v1/chat/completions", content=endless(), headers=JSON)
        assert refusal(response) == (413, "body_too_large")
        assert response.headers["connection"] == "close"


async def test_a_body_that_does_not_come_is_not_waited_for(serve: Any) -> None:
    async with serve(ScriptedEngine(), BodyLimits(time_s=0.2)) as client:
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
            b"content-length: 100\r\n\r\n{"
        )
        async with asyncio.timeout(DEADLINE_S):
            said = await reader.read()
        assert said.startswith(b"HTTP/1.1 408")
        writer.close()


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/v1/chat/completions", (405, "method_not_allowed")),
        ("PUT", "/adapters", (404, "unknown_url")),
        ("GET", "/v1/embeddings", (404, "unknown_url")),
        ("POST", "/v1/load_lora_adapter", (404, "unknown_url")),
        ("POST", "/v1/chat/completions/", (404, "unknown_url")),
        ("POST", "//v1/chat/completions", (404, "unknown_url")),
        ("GET", "/v1/models/other", (404, "model_not_found")),
    ],
)
async def test_what_is_not_offered_is_refused(
    ask: Any, method: str, path: str, expected: tuple[int, str]
) -> None:
    async with ask(ScriptedEngine()) as client:
        response = await client.request(method, f"http://app{path}", content=b"{}", headers=JSON)
        assert refusal(response) == expected
        assert (response.headers.get("allow") == "POST") == (expected[0] == 405)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "expected", "retry_after"),
    [
        (QueueFullError(7), (429, "queue_full"), "7"),
        (RevisionNotReadyError("base", "Loading"), (503, "revision_not_ready"), "5"),
        (ShuttingDownError(), (503, "shutting_down"), "5"),
        (PromptTooLongError(600, 511), (400, "context_length_exceeded"), None),
        (EngineError("Token 9999 is not in the vocabulary."), (400, "invalid_value"), None),
        (GenerationFailedError(), (500, "generation_failed"), None),
        (ZeroDivisionError("secret detail"), (500, "internal_error"), None),
    ],
)
async def test_what_the_engine_cannot_do_has_a_status_streamed_or_not(
    ask: Any, error: Exception, expected: tuple[int, str], retry_after: str | None, *, stream: bool
) -> None:
    async with ask(ScriptedEngine([error])) as client:
        response = await client.post("/v1/chat/completions", json={**CHAT, "stream": stream})
        assert refusal(response) == expected
        assert response.headers.get("retry-after") == retry_after
        assert "secret" not in response.text


async def test_an_error_in_the_middle_of_a_stream_is_its_last_event(ask: Any) -> None:
    broken = [piece("a"), GenerationFailedError()]
    async with ask(ScriptedEngine(broken)) as client:
        response = await client.post("/v1/chat/completions", json={**CHAT, "stream": True})
        assert response.status_code == 200
        assert events(response.text)[-1]["error"]["code"] == "generation_failed"
        assert "[DONE]" not in response.text


async def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(ask: Any) -> None:
    async with ask(ScriptedEngine([piece("a")])) as client:
        response = await client.post("/v1/chat/completions", json=CHAT)
        assert refusal(response) == (500, "generation_failed")


async def test_one_refused_choice_ends_the_others(serve: Any) -> None:
    never = asyncio.Event()
    engine = ScriptedEngine([never], [QueueFullError(1)], [never])
    async with serve(engine) as client:
        response = await client.post("/v1/chat/completions", json={**CHAT, "n": 3})
        assert refusal(response) == (429, "queue_full")
        await until(lambda: engine.running == 0)


@pytest.mark.parametrize("begun", [[], [piece("a")]], ids=["before the first token", "in the middle"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_ends_its_answers(serve: Any, begun: list[Step], *, stream: bool) -> None:
    engine = ScriptedEngine([*begun, asyncio.Event()])
    async with serve(engine) as client:
        request = client.post("/v1/chat/completions", json={**CHAT, "stream": stream, "n": 2})
        asking = asyncio.create_task(request)
        await until(lambda: engine.running == 2)
        asking.cancel()
        await until(lambda: engine.running == 0)


async def test_a_second_request_on_a_busy_connection_ends_both(serve: Any) -> None:
    engine = ScriptedEngine([asyncio.Event()])
    body = json.dumps(CHAT).encode()
    request = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    request += b"content-length: %d\r\n\r\n%b" % (len(body), body)
    async with serve(engine) as client:
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(request)
        await until(lambda: engine.running == 1)
        writer.write(request)
        async with asyncio.timeout(DEADLINE_S):
            assert await reader.read() == b""
        await until(lambda: engine.running == 0)
        writer.close()


async def test_headers_without_end_are_refused(serve: Any) -> None:
    async with serve(ScriptedEngine()) as client:
        response = await client.get("/healthz", headers={f"x-{number}": "y" * 1000 for number in range(70)})
        assert response.status_code == 400


async def test_a_silent_stream_says_that_it_is_alive(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(responses, "HEARTBEAT_S", 0.02)
    thinking = asyncio.Event()
    async with (
        serve(ScriptedEngine([thinking, *answer("ok")])) as client,
        client.stream(
            "POST", "/v1/completions", json={"model": "tiny", "prompt": "a", "stream": True}
        ) as response,
    ):
        lines = response.aiter_lines()
        assert (await anext(lines)).startswith(":")
        thinking.set()
        text = "\n".join([line async for line in lines])
    assert "".join(event["choices"][0]["text"] for event in events(text)) == "ok"


async def test_the_header_pins_and_the_model_is_shown_as_it_was_asked_for(ask: Any) -> None:
    engine = ScriptedEngine(adapters=[AdapterState("rev-a", DIGEST, "Ready")])
    async with ask(engine) as client:
        pinned = {"x-fettle-revision": "rev-a"}
        response = await client.post("/v1/chat/completions", json={**CHAT, "model": "any"}, headers=pinned)
        assert (response.json()["model"], response.headers["x-fettle-revision"]) == ("any", "rev-a")
        unknown = {"x-fettle-revision": "rev-b"}
        response = await client.post("/v1/chat/completions", json=CHAT, headers=unknown)
        assert refusal(response) == (404, "model_not_found")
        score = {"input_data": {"input_string": CHAT["messages"]}}
        response = await client.post("/score", json=score, headers=pinned)
        assert response.json() == {"output": "fine"}
    assert [revision for revision, _, _ in engine.asked] == ["rev-a", "rev-a"]


@pytest.mark.parametrize(
    ("model", "revision"),
    [("tiny", "base"), ("base", "base"), ("rev-a", "rev-a"), ("tiny@rev-a", "rev-a"), ("tiny@base", "base")],
)
async def test_without_a_header_the_model_names_the_revision(ask: Any, model: str, revision: str) -> None:
    engine = ScriptedEngine(adapters=[AdapterState("rev-a", DIGEST, "Ready")])
    async with ask(engine) as client:
        response = await client.post("/v1/completions", json={"model": model, "prompt": "a"})
        assert (response.json()["model"], response.headers["x-fettle-revision"]) == (model, revision)


async def test_what_the_template_does_not_show_is_not_dropped_in_silence(ask: Any) -> None:
    tool = {"type": "function", "function": {"name": "look"}}
    named = [{"role": "user", "content": "hello", "name": "ann"}]
    async with ask(ScriptedEngine()) as client:
        for document in ({**CHAT, "tools": [tool]}, {**CHAT, "messages": named}):
            response = await client.post("/v1/chat/completions", json=document)
            assert refusal(response) == (400, "unsupported_parameter")
        hidden = await client.post(
            "/v1/chat/completions", json={**CHAT, "tools": [tool], "tool_choice": "none"}
        )
        assert hidden.status_code == 200


async def test_a_refusing_template_is_the_clients_affair(ask: Any) -> None:
    async with ask(ScriptedEngine()) as client:
        refused = {**CHAT, "messages": [{"role": "user", "content": "refuse"}]}
        response = await client.post("/v1/chat/completions", json=refused)
        assert refusal(response) == (400, "invalid_value")
        assert response.json()["error"]["param"] == "messages"


async def test_the_request_id_is_kept_where_it_can_stand_in_a_log(ask: Any) -> None:
    async with ask(ScriptedEngine()) as client:
        kept = await client.get("/healthz", headers={"x-request-id": "abc-1"})
        made = await client.get("/healthz", headers={"x-request-id": "abc 1"})
        assert kept.headers["x-request-id"] == "abc-1"
        assert made.headers["x-request-id"] not in {"", "abc 1"}


async def test_probes_tell_dead_loading_and_stopping_apart(ask: Any) -> None:
    engine = ScriptedEngine()
    state = Serving(engine)
    async with ask(engine, state=state) as client:
        response = await client.post("/v1/chat/completions", json=CHAT)
        assert refusal(response) == (503, "loading")
        assert (await client.get("/readyz")).status_code == 503
        state.started = True
        assert (await client.get("/readyz")).json() == {"status": "ready"}
        engine.ready = False
        response = await client.get("/readyz")
        assert (response.status_code, response.json()) == (503, {"status": "loading"})
        engine.ready, state.stopping = True, True
        response = await client.get("/readyz")
        assert (response.status_code, response.json()) == (503, {"status": "stopping"})
        assert (await client.get("/healthz")).status_code == 200
        engine.healthy = False
        assert (await client.get("/healthz")).status_code == 503


async def test_only_adapters_that_answer_are_listed(ask: Any) -> None:
    adapters = [AdapterState("rev-a", DIGEST, "Ready"), AdapterState("rev-b", DIGEST, "Loading")]
    async with ask(ScriptedEngine(adapters=adapters)) as client:
        listed = (await client.get("/v1/models")).json()["data"]
        assert [entry["id"] for entry in listed] == ["tiny", "base", "rev-a"]
        assert (await client.get("/v1/models/rev-a")).json() == listed[2]
        assert (listed[2]["root"], listed[2]["parent"]) == (DIGEST, "base")


async def test_the_log_has_a_line_for_each_request_and_no_word_of_it(
    ask: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "fettle_server.requests")
    async with ask(ScriptedEngine(answer("unspeakable"))) as client:
        secret = [{"role": "user", "content": "confidential"}]
        await client.post("/v1/chat/completions", json={**CHAT, "messages": secret, "stream": True})
    (line,) = [record.told for record in caplog.records if record.name == "fettle_server.requests"]
    assert (line["status"], line["revision"], line["tokens_out"], line["finish"]) == (
        200,
        "base",
        11,
        ["stop"],
    )
    assert not {"confidential", "unspeakable"} & set(json.dumps(line).replace('"', " ").split())
