"""The layer in front of a stand-in for vLLM: what clients get, and what they cannot reach."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from typing import Any

import openai
import pytest

from asgi_calls import until
from fettle_server.vllm.middleware import FettleLayer
from vllm_stand_in import HIDDEN

HELLO: Any = [{"role": "user", "content": "hello"}]
WEIGHTED = {"x-fettle-route": "weighted"}


async def ask(running: Any, revision: str = "", **more: Any) -> Any:
    headers = {**WEIGHTED, **({"x-fettle-revision": revision} if revision else {})}
    return await running.openai.chat.completions.create(
        model="bot", messages=HELLO, extra_headers=headers, **more
    )


async def test_the_routers_header_picks_the_adapter_and_the_answer_names_the_alias(running: Any) -> None:
    wanted = running.adapter("rev-a")
    await running.put(wanted)
    await running.settled(rev_a="Ready")
    lora = f"rev-a.{wanted['digest'].removeprefix('sha256:')[:16]}"
    answer = await ask(running, "rev-a")
    assert answer.model == "bot"
    assert answer.choices[0].message.content.startswith(f"{lora} says")
    assert "{% for message" in answer.choices[0].message.content  # the adapter's own template
    assert (await ask(running, "base-1")).choices[0].message.content.startswith("bot says")
    assert (await ask(running)).choices[0].message.content.startswith("bot says")


async def test_a_stream_comes_word_by_word_under_the_alias(running: Any) -> None:
    await running.put(running.adapter("rev-a"))
    await running.settled(rev_a="Ready")
    running.vllm.go.clear()
    stream = await ask(running, "rev-a", stream=True, n=2)
    assert stream.response.headers["x-fettle-revision"] == "rev-a"
    seen = []
    async for part in stream:
        seen.append(part)
        if len(seen) == 4:  # two roles and two first words, while vLLM is being held up
            running.vllm.go.set()
    assert {part.model for part in seen} == {"bot"}
    assert all(part.choices and part.usage is None for part in seen)
    texts = ["", ""]
    for part in seen:
        texts[part.choices[0].index] += part.choices[0].delta.content or ""
    assert texts[0] == texts[1]
    assert texts[0].startswith("rev-a.")


async def test_usage_comes_at_the_end_of_a_stream_when_it_was_asked_for(running: Any) -> None:
    stream = await ask(running, stream=True, stream_options={"include_usage": True})
    parts = [part async for part in stream]
    assert parts[-1].choices == []
    assert parts[-1].usage.prompt_tokens == 11
    assert parts[-1].model == "bot"


async def test_completions_and_azures_payload_are_answered_too(running: Any) -> None:
    await running.put(running.adapter("rev-a"))
    await running.settled(rev_a="Ready")
    text = await running.openai.completions.create(model="rev-a", prompt="hello", max_tokens=2)
    assert (text.model, text.choices[0].finish_reason) == ("rev-a", "length")
    assert text.choices[0].text.startswith("rev-a.")
    payload = {"input_data": {"input_string": HELLO, "parameters": {"max_new_tokens": 2}}}
    headers = {"x-fettle-revision": "rev-a"}
    async with running.http.post("/score", json=payload, headers=headers) as reply:
        answer = await reply.json()
    assert list(answer) == ["output"]
    assert answer["output"].endswith(" says")


async def test_models_are_listed_by_the_names_that_clients_use(running: Any) -> None:
    wanted = running.adapter("rev-a")
    await running.put(wanted)
    await running.settled(rev_a="Ready")
    listed = {model.id: model async for model in running.openai.models.list()}
    assert list(listed) == ["bot", "base-1", "rev-a"]
    assert (await running.openai.models.retrieve("rev-a")).id == "rev-a"
    with pytest.raises(openai.NotFoundError):
        await running.openai.models.retrieve("rev-b")


async def test_a_revision_that_is_not_there_is_never_answered_by_another(running: Any) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        await ask(running, "rev-x")
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await running.openai.chat.completions.create(model="rev-x", messages=HELLO)
    assert running.vllm.asked == []
    await running.put(running.adapter("rev-bad", trainable_token_indices=[1]))
    await running.refusal("rev-bad")
    with pytest.raises(openai.InternalServerError) as refused:
        await ask(running, "rev-bad")
    assert refused.value.status_code == 503


async def test_nothing_else_of_vllm_is_reachable(running: Any) -> None:
    paths = [
        *HIDDEN,
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/",
        "//v1/models",
        "/v1/chat/completions/",
    ]
    for path in paths:
        for method in ("GET", "POST", "PUT", "OPTIONS", "HEAD"):
            body = {"lora_name": "x", "lora_path": "/x"}
            async with running.http.request(method, running.url + path, json=body) as reply:
                # /score is a path of ours too, and asks for another payload than vLLM's.
                expected = {400, 405} if path == "/score" else {404}
                assert reply.status in expected, (method, path)
                assert "leaked" not in await reply.text()
    assert running.vllm.calls == []


async def test_a_websocket_is_closed(running: Any) -> None:
    with pytest.raises(Exception, match=r"403|Invalid response status"):
        await running.http.ws_connect("/v1/realtime")


async def test_the_operators_paths_need_their_token(running: Any) -> None:
    for path in ("/adapters", "/shadow"):
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Bearer "}):
            for method in ("GET", "PUT"):
                async with running.http.request(
                    method, path, json={"adapters": []}, headers=headers
                ) as reply:
                    assert reply.status == 401


async def test_each_revision_has_its_own_series_behind_vllms(running: Any) -> None:
    await running.put(running.adapter("rev-a"))
    await running.settled(rev_a="Ready")
    await ask(running, "rev-a")
    async for _part in await ask(running, "rev-a", stream=True):
        pass
    labels = 'revision="rev-a",role="",route="weighted"'
    await until(lambda: running.series(f'fettle_server_requests_total{{code="200",{labels}}} 2.0'))
    series = await running.series("")
    assert series[f"fettle_server_prompt_tokens_total{{{labels}}}"] == 22
    words = running.vllm.asked[-1]
    assert words["stream_options"] == {"include_usage": True}
    assert series[f"fettle_server_time_to_first_token_seconds_count{{{labels}}}"] == 1
    assert series[f'fettle_server_answers_total{{finish_reason="stop",{labels}}}'] == 2
    assert series['vllm:num_requests_running{engine="0"}'] == 0


async def test_a_client_that_hangs_up_ends_the_answer_in_vllm(running: Any) -> None:
    running.vllm.go.clear()
    stream = await ask(running, stream=True)
    async for _part in stream:
        break
    await until(lambda: running.vllm.running == 1)
    await stream.close()
    await until(lambda: running.vllm.running == 0)
    gone = 'fettle_server_requests_total{code="499",revision="base-1",role="",route="weighted"}'
    await until(lambda: running.series(gone))


async def test_vllms_queue_is_bounded(running: Any) -> None:
    running.vllm.go.clear()
    held = [asyncio.create_task(ask(running)) for _ in range(6)]
    await until(lambda: len(running.vllm.asked) == 6)
    with pytest.raises(openai.RateLimitError) as refused:
        await ask(running)
    assert refused.value.response.headers["retry-after"]
    running.vllm.go.set()
    await asyncio.gather(*held)


async def test_a_thumb_counts_for_the_revision_that_answered(running: Any) -> None:
    answer = await ask(running)
    async with running.http.post("/feedback", json={"id": answer.id, "rating": "up"}) as reply:
        assert reply.status == 200
    line = 'fettle_server_feedback_total{rating="up",revision="base-1",role="",route="weighted"}'
    assert await running.series(line) == {line: 1}


async def test_a_shadow_answers_with_the_lowest_priority_and_its_own_id(running: Any) -> None:
    await running.put(running.adapter("rev-s"))
    await running.settled(rev_s="Ready")
    settings = {"revision": "rev-s", "percent": 100}
    async with running.http.put("/shadow", json=settings, headers=running.operator) as reply:
        assert reply.status == 200
    before = len(running.vllm.asked)
    answer = await ask(running)
    await until(lambda: len(running.vllm.asked) == before + 2)
    assert [it.get("priority") for it in running.vllm.asked[before:]] == [None, 1]
    assert answer.choices[0].message.content.startswith("bot says")


async def test_headers_that_vllm_would_obey_stop_at_the_layer(running: Any) -> None:
    sent = {
        "X-Vllm-Priority": "-9",
        "X-data-parallel-rank": "1",
        "Accept-Encoding": "gzip",
        "X-Request-Id": "7f3a",
    }
    answer = await running.openai.chat.completions.create(model="bot", messages=HELLO, extra_headers=sent)
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{32}-[0-9a-f]{8}", answer.id)
    assert set(running.vllm.headers[-1]) == {
        "host",
        "content-type",
        "content-length",
        "user-agent",
        "x-request-id",
    }


async def test_errors_of_vllm_reach_the_client_without_inner_names(running: Any) -> None:
    await running.put(running.adapter("rev-a"))
    await running.settled(rev_a="Ready")
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(running, "rev-a", max_tokens=0)
    assert "model bot." in str(refused.value)
    assert "rev-a." not in str(refused.value)


async def test_bodies_that_are_no_requests_never_reach_vllm(running: Any) -> None:
    json_type = {"content-type": "application/json"}
    for body, headers, status in (
        (b"{", json_type, 400),
        (b"[]", json_type, 400),
        (b'{"model": 5}', json_type, 400),
        (b"{}", {"content-type": "text/plain"}, 415),
        (json.dumps({"prompt": "x" * 2_000_000}).encode(), json_type, 413),
    ):
        async with running.http.post("/v1/completions", data=body, headers=headers) as reply:
            assert reply.status == status
            assert (await reply.json())["error"]["message"]
    assert running.vllm.asked == []


async def test_wrong_settings_keep_the_server_from_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FETTLE_MODEL_NAME", raising=False)
    layer = FettleLayer(lambda *_: pytest.fail("vLLM was reached"))  # type: ignore[arg-type, return-value]
    sent: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        sent.append(message)

    await layer({"type": "lifespan"}, receive, send)
    assert sent[0]["type"] == "lifespan.startup.failed"
    assert sent[0]["message"].startswith("FETTLE_MODEL_NAME is not set")


def test_the_layer_brings_no_model_stack_of_its_own() -> None:
    code = (
        "import sys; import fettle_server.vllm.middleware, fettle_server.layer.stack; "
        "print([name for name in ('torch', 'transformers', 'peft', 'safetensors', 'uvicorn') if name in sys.modules])"
    )
    python = [sys.executable, "-c", code]
    found = subprocess.run(
        python, capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert found.stdout.strip() == "[]"
