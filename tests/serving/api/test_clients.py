"""OpenAI's own client and LangChain are pleased with the server, on a real model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_openai import ChatOpenAI

from running_server import Server

QUESTION: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def chat(client: openai.OpenAI, **more: Any) -> Any:
    asked = {"model": "tiny", "messages": QUESTION, "max_completion_tokens": 12, "temperature": 0, **more}
    return client.chat.completions.create(**asked)


def test_a_chat_is_answered(client: openai.OpenAI) -> None:
    answered = chat(client)
    (choice,) = answered.choices
    assert answered.object == "chat.completion"
    assert answered.model == "tiny"
    assert answered.id.startswith("chatcmpl-")
    assert (choice.index, choice.message.role, choice.finish_reason) == (0, "assistant", "length")
    assert choice.message.content
    assert answered.usage.completion_tokens == 12
    assert answered.usage.total_tokens == 12 + answered.usage.prompt_tokens


def test_a_stream_says_what_the_whole_answer_says(client: openai.OpenAI) -> None:
    whole = chat(client)
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    *said, last = chunks
    assert said[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].delta.role for chunk in said[1:]] == [None] * (len(said) - 1)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in said) == whole.choices[0].message.content
    reasons = [chunk.choices[0].finish_reason for chunk in said]
    assert reasons == [*[None] * (len(reasons) - 1), "length"]
    assert all(chunk.usage is None for chunk in said)
    assert (last.choices, last.usage) == ([], whole.usage)
    assert len({chunk.id for chunk in chunks}) == 1


def test_a_stream_has_no_usage_that_was_not_asked_for(client: openai.OpenAI) -> None:
    chunks = list(chat(client, stream=True))
    assert all(chunk.choices and "usage" not in chunk.model_fields_set for chunk in chunks)


def test_the_same_seed_gives_the_same_answers_and_each_choice_another(client: openai.OpenAI) -> None:
    first, again = (chat(client, n=3, seed=5, temperature=1).choices for _ in range(2))
    assert [choice.index for choice in first] == [0, 1, 2]
    said = [choice.message.content for choice in first]
    assert said == [choice.message.content for choice in again]
    assert len(set(said)) == 3


def test_choices_are_streamed_side_by_side(client: openai.OpenAI) -> None:
    whole = [choice.message.content for choice in chat(client, n=3, seed=5, temperature=1).choices]
    said = ["", "", ""]
    for chunk in chat(client, n=3, seed=5, temperature=1, stream=True):
        (choice,) = chunk.choices
        said[choice.index] += choice.delta.content or ""
    assert said == whole


def test_an_answer_ends_before_a_stop_string(client: openai.OpenAI) -> None:
    text = chat(client).choices[0].message.content
    stop = text[3:6]
    stopped = chat(client, stop=[stop, "never said"]).choices[0]
    assert (stopped.message.content, stopped.finish_reason) == (text.partition(stop)[0], "stop")


def test_logprobs_tell_every_token_and_its_rivals(client: openai.OpenAI) -> None:
    choice = chat(client, logprobs=True, top_logprobs=3).choices[0]
    tokens = choice.logprobs.content
    assert len(tokens) == 12
    assert (
        b"".join(bytes(token.bytes) for token in tokens)
        .decode(errors="replace")
        .startswith(choice.message.content)
    )
    for token in tokens:
        assert len(token.top_logprobs) == 3
        # Temperature 0 takes the most likely one.
        assert math.isclose(token.logprob, token.top_logprobs[0].logprob)
        assert token.logprob < 0
    streamed = chat(client, logprobs=True, stream=True)
    parts = [chunk.choices[0].logprobs for chunk in streamed]
    logprobs = [token.logprob for part in parts if part for token in part.content]
    assert logprobs == pytest.approx([token.logprob for token in tokens], abs=1e-4)


def test_a_text_is_completed(client: openai.OpenAI) -> None:
    asked: Any = {"model": "tiny", "temperature": 0, "max_tokens": 5, "n": 2, "logprobs": 2}
    completed = client.completions.create(prompt=["A pod is", "A node runs"], **asked)
    assert [choice.index for choice in completed.choices] == [0, 1, 2, 3]
    assert completed.choices[0].text == completed.choices[1].text
    assert completed.usage is not None
    assert completed.usage.completion_tokens == 20
    logprobs = completed.choices[0].logprobs
    assert logprobs is not None
    assert len(logprobs.tokens or []) == len(logprobs.text_offset or []) == 5
    assert all(2 <= len(rivals) <= 3 for rivals in logprobs.top_logprobs or [])
    streamed = client.completions.create(prompt="A pod is", stream=True, **{**asked, "n": 1})
    assert "".join(chunk.choices[0].text for chunk in streamed) == completed.choices[0].text


def test_tokens_are_as_good_a_prompt_as_their_text(client: openai.OpenAI, tiny: Any) -> None:
    from transformers import AutoTokenizer  # noqa: PLC0415

    tokens = AutoTokenizer.from_pretrained(tiny("qwen3"))("A pod is")["input_ids"]
    asked: Any = {"model": "tiny", "temperature": 0, "max_tokens": 5}
    said = [
        client.completions.create(prompt=prompt, **asked).choices[0].text for prompt in ("A pod is", tokens)
    ]
    assert said[0] == said[1]
    with pytest.raises(openai.BadRequestError, match="from 0 to 383"):
        client.completions.create(prompt=[384], **asked)


def test_adapters_answer_in_their_own_way(client: openai.OpenAI, server: Server) -> None:
    assert [model.id for model in client.models.list()] == ["tiny", "base", "warm-1", "cold-1"]
    assert client.models.retrieve("warm-1").to_dict()["root"] == server.releases["warm"].digest
    said = {
        name: chat(client, model=name).choices[0].message.content
        for name in ("tiny", "base", "warm-1", "tiny@warm-1", "cold-1")
    }
    assert said["tiny"] == said["base"]
    assert said["warm-1"] == said["tiny@warm-1"]
    assert len(set(said.values())) == 3
    pinned = client.chat.completions.with_raw_response.create(
        model="tiny",
        messages=QUESTION,
        temperature=0,
        max_completion_tokens=12,
        extra_headers={"x-fettle-revision": "warm-1"},
    )
    assert pinned.parse().choices[0].message.content == said["warm-1"]
    assert pinned.headers["x-fettle-revision"] == "warm-1"


@pytest.mark.parametrize(
    ("given", "error", "code"),
    [
        ({"model": "other"}, openai.NotFoundError, "model_not_found"),
        ({"temperature": 3}, openai.BadRequestError, "invalid_value"),
        ({"response_format": {"type": "json_object"}}, openai.BadRequestError, "unsupported_parameter"),
        ({"extra_body": {"top_k": 3}}, openai.BadRequestError, "unknown_parameter"),
        (
            {"messages": [{"role": "user", "content": "long " * 600}]},
            openai.BadRequestError,
            "context_length_exceeded",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_the_clients_own_exceptions(
    client: openai.OpenAI,
    given: dict[str, Any],
    error: type[openai.APIStatusError],
    code: str,
    *,
    stream: bool,
) -> None:
    with pytest.raises(error) as raised:
        chat(client, stream=stream, **given)
    assert raised.value.code == code


async def test_langchain_streams(server: Server) -> None:
    # It asks for n=1 and the usage by itself, and passes what it is given on.
    model = ChatOpenAI(
        base_url=f"{server.url}/v1",
        api_key="none",  # type: ignore[arg-type]  # a str is what its own documentation gives
        model="tiny",
        temperature=0,
        max_tokens=12,
        stream_usage=True,
    )
    messages = [SystemMessage("Be brief."), HumanMessage("What is the capital of France?")]
    whole = await model.ainvoke(messages)
    parts = [part async for part in model.astream(messages)]
    assert "".join(str(part.content) for part in parts) == whole.content != ""
    assert sum((part.usage_metadata or {}).get("output_tokens", 0) for part in parts) == 12
