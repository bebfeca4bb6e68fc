"""The whole server on a real model: legal extremes, load, clients that leave, and adapters that come and go."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest

from running_server import Server

CHAT: dict[str, Any] = {
    "model": "tiny",
    "messages": [{"role": "user", "content": "What is a pod?"}],
    "temperature": 0,
    "max_completion_tokens": 8,
}
LONG = {**CHAT, "max_completion_tokens": 400, "stream": True}
DEADLINE_S = 60


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def idle(server: Server) -> bool:
    load = server.serving.engine.load()
    return load.running == load.waiting == 0


def gone(server: Server) -> float:
    """Return how many requests have been left by their clients."""
    lines = httpx.get(f"{server.url}/metrics").text.splitlines()
    counters = [line for line in lines if line.startswith('fettle_server_requests_total{code="499"')]
    return sum(float(line.rpartition(" ")[2]) for line in counters)


def chat(server: Server, **changes: Any) -> httpx.Response:
    document = {**CHAT, **changes}
    return httpx.post(f"{server.url}/v1/chat/completions", json=document, timeout=DEADLINE_S)


@pytest.mark.parametrize(
    "extreme",
    [
        {"temperature": 2, "top_p": 0, "seed": -(2**63)},
        {"temperature": 1e-9, "top_p": 1e-9, "seed": 2**63 - 1, "n": 2},
        {"presence_penalty": 2, "frequency_penalty": -2, "temperature": 2, "seed": 0},
        {"stop": ["x" * 256, "\x00", "\U0001f600", "never"]},
        {"logprobs": True, "top_logprobs": 20, "n": 4},
        {"messages": [{"role": "user", "content": ""}]},
        {"messages": [{"role": "developer", "content": "\x00\U0010ffff <|im_end|>"}, *CHAT["messages"]]},
    ],
)
def test_what_is_allowed_is_answered_however_odd(server: Server, extreme: dict[str, Any]) -> None:
    answered = chat(server, **extreme)
    assert answered.status_code == 200, answered.text
    assert len(answered.json()["choices"]) == extreme.get("n", 1)


def test_azures_payload_is_answered_by_the_revision_of_the_header(server: Server) -> None:
    payload = {
        "input_data": {
            "input_string": CHAT["messages"],
            "parameters": {"do_sample": False, "max_new_tokens": 8},
        }
    }
    scored = httpx.post(
        f"{server.url}/score", json=payload, headers={"x-fettle-revision": "warm-1"}, timeout=DEADLINE_S
    )
    said = chat(server, model="warm-1").json()["choices"][0]["message"]["content"]
    assert scored.json() == {"output": said}


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_frees_its_place(server: Server, *, stream: bool) -> None:
    until(lambda: idle(server))
    before = gone(server)
    url = httpx.URL(server.url)
    client = HTTPConnection(url.host, url.port)
    body = json.dumps({**LONG, "n": 8, "stream": stream})
    client.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    until(lambda: server.serving.engine.load().running == 8)
    client.close()
    until(lambda: idle(server))
    # It was not that all had been said.
    assert gone(server) == before + 1


def test_a_full_queue_is_told_with_the_time_to_wait(server: Server) -> None:
    until(lambda: idle(server))
    with ThreadPoolExecutor(4) as clients:
        # 64 answers: 8 are generated, 32 may wait.
        asked = [clients.submit(chat, server, max_completion_tokens=60, n=16) for _ in range(4)]
        answered = [client.result() for client in asked]
    refused = [answer for answer in answered if answer.status_code == 429]
    assert refused
    assert {answer.status_code for answer in answered} <= {200, 429}
    for answer in refused:
        assert answer.json()["error"]["code"] == "queue_full"
        assert int(answer.headers["retry-after"]) >= 1
    until(lambda: idle(server))


def test_adapters_come_and_go_while_others_answer(server: Server) -> None:
    expected = chat(server, model="warm-1").json()["choices"][0]["message"]["content"]
    with httpx.stream(
        "POST", f"{server.url}/v1/chat/completions", json={**LONG, "model": "cold-1"}, timeout=DEADLINE_S
    ) as answer:
        lines = (line for line in answer.iter_lines() if line)
        next(lines)
        assert server.put("warm-1", "warm-2", "cold-1").json()["ready"] is False
        server.settled()
        assert chat(server, model="warm-2").json()["choices"][0]["message"]["content"] == expected
        assert server.put("warm-1", "cold-1").status_code == 200
        until(lambda: chat(server, model="warm-2").status_code == 404)
        *_, last = lines
    assert last == "data: [DONE]"
    with server.admin() as admin:
        states = {entry["revision"]: entry["state"] for entry in admin.get("/adapters").json()["adapters"]}
    assert states == {"warm-1": "Ready", "cold-1": "Ready"}


def test_an_adapter_that_is_not_what_it_should_be_is_refused_and_concerns_nobody(server: Server) -> None:
    wanted = [
        {"revision": name, "digest": server.releases[name].digest, "path": f"{name}"}
        for name in ("warm", "cold")
    ]
    wanted[1]["digest"] = server.releases["warm"].digest
    with server.admin() as admin:
        assert admin.put("/adapters", json={"adapters": wanted}).status_code == 200
        server.settled()
        told = {entry["revision"]: entry for entry in admin.get("/adapters").json()["adapters"]}
    assert (told["warm"]["state"], told["cold"]["state"]) == ("Ready", "Refused")
    assert told["cold"]["reason"]
    assert told["cold"]["message"]
    assert chat(server, model="cold").status_code == 503
    assert chat(server, model="warm").status_code == 200
    server.put("warm-1", "cold-1")
    server.settled()


def test_what_is_answered_is_measured_and_can_be_rated(server: Server) -> None:
    answered = chat(server, model="warm-1").json()
    rated = httpx.post(f"{server.url}/feedback", json={"id": answered["id"], "rating": "up"})
    assert rated.status_code == 200
    metrics = httpx.get(f"{server.url}/metrics").text
    line = 'fettle_server_feedback_total{rating="up",revision="warm-1"'
    assert [found for found in metrics.splitlines() if found.startswith(line)]
