"""Streams as vLLM sends them, cut wherever the network may cut them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fettle_server.layer.asgi import Refused
from fettle_server.layer.facts import RequestFacts
from fettle_server.vllm.answers import EventStream, whole_answer
from fettle_server.vllm.loadable import Target
from fettle_server.vllm.requests import Asked, rewritten

TARGET = Target("rev-a.0123456789abcdef", Path("/adapters/a"), "{{ own }}", (7,))


def asked(document: dict[str, Any], path: str = "/v1/chat/completions", *, shadow: bool = False) -> Asked:
    return rewritten(path, document, "bot", TARGET, shadow=shadow)


def chunk(**more: Any) -> bytes:
    document = {"id": "chatcmpl-1", "model": TARGET.lora_name, "choices": [], **more}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def word(text: str, finish: str | None = None) -> bytes:
    return chunk(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}])


STREAM = (
    word("Grüß ") + word('"model":"x"\n\n') + word("dich", "stop")
    + chunk(usage={"prompt_tokens": 5, "completion_tokens": 9}) + b"data: [DONE]\n\n"
)  # fmt: skip


@pytest.mark.parametrize("piece", [1, 2, 7, 100, 10_000])
def test_a_stream_is_the_same_however_it_is_cut(piece: int) -> None:
    facts = RequestFacts()
    stream = EventStream(asked({"stream": True}), facts)
    pieces = [STREAM[start : start + piece] for start in range(0, len(STREAM), piece)]
    got = b"".join(stream.feed(part, last=False) for part in pieces) + stream.feed(b"", last=True)
    events = [event.removeprefix(b"data: ") for event in got.split(b"\n\n")]
    assert events[-2:] == [b"[DONE]", b""]
    documents = [json.loads(event) for event in events[:-2]]
    assert [document["model"] for document in documents] == ["bot"] * 3
    assert facts.choices[0].text == 'Grüß "model":"x"\n\ndich'
    assert (facts.tokens_in, facts.tokens_out, facts.response_id) == (5, 9, "chatcmpl-1")
    assert facts.choices[0].finish == "stop"


def test_a_whole_event_never_waits_for_the_next_one() -> None:
    stream = EventStream(asked({"stream": True}), RequestFacts())
    assert stream.feed(word("one") + b"data: {", last=False).count(b"data: ") == 1


def test_usage_reaches_a_client_that_asked_for_it_and_no_other() -> None:
    wanting = asked({"stream": True, "stream_options": {"include_usage": True}})
    assert b'"usage"' in EventStream(wanting, RequestFacts()).feed(STREAM, last=True)
    other = asked({"stream": True, "stream_options": {"continuous_usage_stats": True}})
    assert json.loads(other.body)["stream_options"] == {"include_usage": True}
    counted = word("one").replace(b'"choices"', b'"usage": {"prompt_tokens": 5}, "choices"')
    assert b'"usage"' not in EventStream(other, RequestFacts()).feed(counted, last=True)


def test_stream_options_that_make_no_sense_are_vllms_to_refuse() -> None:
    assert json.loads(asked({"stream": True, "stream_options": "usage"}).body)["stream_options"] == "usage"
    assert "stream_options" not in json.loads(asked({"stream": False}).body)


def test_an_error_in_a_stream_is_an_answer_that_failed() -> None:
    facts = RequestFacts()
    said = EventStream(asked({"stream": True}), facts).feed(
        b'data: {"error": {"message": "no"}}\n\n', last=True
    )
    assert b'"message":"no"' in said
    assert facts.failed


def test_comments_of_the_stream_pass_untouched() -> None:
    assert (
        EventStream(asked({"stream": True}), RequestFacts()).feed(b": ping\n\n", last=False) == b": ping\n\n"
    )


def test_an_error_does_not_tell_the_inner_name() -> None:
    body = json.dumps({"error": {"message": f"The model `{TARGET.lora_name}` does not exist."}}).encode()
    assert b"The model `bot` does not exist." in whole_answer(body, asked({}), RequestFacts(), score=False)


def test_the_adapter_speaks_with_its_own_template_and_ends_with_its_own_token() -> None:
    chat = json.loads(asked({"model": "bot", "stop_token_ids": [3]}).body)
    assert (chat["model"], chat["chat_template"], chat["stop_token_ids"]) == (
        TARGET.lora_name,
        "{{ own }}",
        [3, 7],
    )
    assert "chat_template" not in json.loads(asked({"prompt": "x"}, "/v1/completions").body)
    base = json.loads(rewritten("/v1/chat/completions", {}, "bot", None, shadow=False).body)
    assert base == {"model": "bot"}


def test_shadow_copies_come_after_users() -> None:
    assert json.loads(asked({}, shadow=True).body)["priority"] == 1
    assert "priority" not in json.loads(asked({}).body)


@pytest.mark.parametrize(
    "document",
    [
        {"chat_template": "{{ evil }}"},
        {"chat_template_kwargs": {"chat_template": "{{ evil }}"}},
        {"priority": -5},
        {"request_id": "chatcmpl-of-somebody"},
        {"kv_transfer_params": {"remote_host": "evil"}},
        {"mm_payload": {"path": "/etc"}},
    ],
)
def test_what_the_server_decides_is_not_the_clients(document: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        asked(document)
    assert refused.value.status == 400


def test_azures_payload_becomes_a_chat() -> None:
    messages = [{"role": "user", "content": "hi"}]
    parameters = {"do_sample": False, "max_new_tokens": 5, "stop": ["."]}
    score = asked({"input_data": {"input_string": messages, "parameters": parameters}}, "/score")
    assert score.path == "/v1/chat/completions"
    body = json.loads(score.body)
    assert (body["messages"], body["temperature"], body["max_tokens"], body["stop"]) == (
        messages,
        0.0,
        5,
        ["."],
    )
    answer = json.dumps({"id": "1", "choices": [{"index": 0, "message": {"content": "yes"}}]}).encode()
    assert whole_answer(answer, score, RequestFacts(), score=True) == b'{"output":"yes"}'
