"""What is asked is done or refused, and the refusal names the parameter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fettle_server.api import chat, completions, score
from fettle_server.api.validation import refuse_unsupported, validated
from fettle_server.engine.types import Sampling
from fettle_server.layer.asgi import Refused

REFERENCE = Path(__file__).parents[3] / "docs/reference/server-api.md"
HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def parsed_chat(**given: Any) -> chat.ChatRequest:
    document = {"model": "tiny", "messages": HELLO, **given}
    return validated(chat.ChatRequest, refuse_unsupported(document, chat.HARMLESS))


def parsed_completion(**given: Any) -> completions.CompletionRequest:
    document = {"model": "tiny", "prompt": "hello", **given}
    return validated(completions.CompletionRequest, refuse_unsupported(document, completions.HARMLESS))


def parsed_score(conversation: Any = HELLO, **parameters: Any) -> score.ScoreRequest:
    return validated(
        score.ScoreRequest, {"input_data": {"input_string": conversation, "parameters": parameters}}
    )


@pytest.mark.parametrize(
    ("given", "code", "param"),
    [
        ({"colour": "red"}, "unknown_parameter", "colour"),
        ({"top_k": 5}, "unknown_parameter", "top_k"),
        ({"chat_template": "{{ 1 }}"}, "unknown_parameter", "chat_template"),
        ({"prompt_embeds": "AA=="}, "unknown_parameter", "prompt_embeds"),
        ({"response_format": {"type": "json_object"}}, "unsupported_parameter", "response_format"),
        ({"logit_bias": {"1": 5}}, "unsupported_parameter", "logit_bias"),
        ({"parallel_tool_calls": False}, "unsupported_parameter", "parallel_tool_calls"),
        ({"parallel_tool_calls": 1}, "unsupported_parameter", "parallel_tool_calls"),
        ({"store": True}, "unsupported_parameter", "store"),
        ({"reasoning_effort": "low"}, "unsupported_parameter", "reasoning_effort"),
        ({"temperature": 2.1}, "invalid_value", "temperature"),
        ({"temperature": float("nan")}, "invalid_value", "temperature"),
        ({"temperature": "0.5"}, "invalid_value", "temperature"),
        ({"temperature": True}, "invalid_value", "temperature"),
        ({"top_p": -0.1}, "invalid_value", "top_p"),
        ({"n": 0}, "invalid_value", "n"),
        ({"n": 17}, "invalid_value", "n"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "invalid_value", None),
        ({"presence_penalty": -2.5}, "invalid_value", "presence_penalty"),
        ({"seed": 2**63}, "invalid_value", "seed"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "invalid_value", "stop"),
        ({"stop": ""}, "invalid_value", "stop[0]"),
        ({"logprobs": 3}, "invalid_value", "logprobs"),
        ({"top_logprobs": 3}, "invalid_value", None),
        ({"logprobs": True, "top_logprobs": 21}, "invalid_value", "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "invalid_value", None),
        ({"stream": True, "stream_options": {"more": 1}}, "unknown_parameter", "stream_options.more"),
        ({"tool_choice": "auto"}, "invalid_value", None),
        ({"tools": [TOOL], "tool_choice": "required"}, "invalid_value", "tool_choice"),
        ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].function"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "invalid_value", "messages[0].content"),
        ({"messages": [{"role": "assistant"}]}, "invalid_value", "messages[0]"),
        ({"messages": [{"content": "a"}]}, "missing_required_parameter", "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "a"}]}, "invalid_value", "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": "a", "tool_call_id": "1"}]},
            "unknown_parameter",
            "messages[0].tool_call_id",
        ),
        ({"messages": [{"role": "robot", "content": "a"}]}, "invalid_value", "messages[0].role"),
        (
            {"messages": [*HELLO, {"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "invalid_value",
            "messages[1].content",
        ),
        (
            {"messages": [{"role": "tool", "content": "a"}]},
            "missing_required_parameter",
            "messages[0].tool_call_id",
        ),
        (
            {"messages": [{"role": "user", "content": "a", "weight": 1}]},
            "unknown_parameter",
            "messages[0].weight",
        ),
        ({"model": ""}, "invalid_value", "model"),
        ({"model": None}, "invalid_value", "model"),
    ],
)
def test_a_chat_that_cannot_be_had_is_refused_by_the_parameters_name(
    given: dict[str, Any], code: str, param: str | None
) -> None:
    with pytest.raises(Refused) as refused:
        parsed_chat(**given)
    assert (refused.value.status, refused.value.code, refused.value.param) == (400, code, param)
    assert param is None or param in refused.value.message


@pytest.mark.parametrize(
    ("given", "code", "param"),
    [
        ({"echo": True}, "unsupported_parameter", "echo"),
        ({"suffix": "after"}, "unsupported_parameter", "suffix"),
        ({"best_of": 3}, "invalid_value", None),
        ({"logprobs": 6}, "invalid_value", "logprobs"),
        ({"prompt": []}, "invalid_value", "prompt"),
        ({"prompt": [[]]}, "invalid_value", "prompt[0]"),
        ({"prompt": [1, "a"]}, "invalid_value", "prompt[0]"),
        ({"prompt": [-1]}, "invalid_value", "prompt[0]"),
        ({"prompt": [True]}, "invalid_value", "prompt[0]"),
        ({"prompt": ["a"] * 17}, "invalid_value", "prompt"),
        ({"prompt": ["a"] * 5, "n": 4}, "invalid_value", None),
    ],
)
def test_a_completion_that_cannot_be_had_is_refused_by_the_parameters_name(
    given: dict[str, Any], code: str, param: str | None
) -> None:
    with pytest.raises(Refused) as refused:
        parsed_completion(**given)
    assert (refused.value.status, refused.value.code, refused.value.param) == (400, code, param)


def test_nothing_given_means_openais_defaults() -> None:
    assert parsed_chat().sampling(0) == Sampling(max_tokens=2**31 - 1, temperature=1.0, top_p=1.0)
    assert parsed_completion().sampling(0) == Sampling(max_tokens=16, temperature=1.0, top_p=1.0)


def test_null_is_as_good_as_nothing() -> None:
    names = [name for name in chat.ChatRequest.model_fields if name not in {"model", "messages"}]
    nulls = parsed_chat(**dict.fromkeys([*names, *chat.HARMLESS]))
    assert nulls.sampling(0) == parsed_chat().sampling(0)


def test_everything_that_is_given_reaches_the_engine() -> None:
    asked = parsed_chat(
        max_completion_tokens=7,
        temperature=0,
        top_p=0.5,
        seed=3,
        stop="end",
        logprobs=True,
        top_logprobs=2,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
    )
    assert asked.sampling(1) == Sampling(
        max_tokens=7,
        temperature=0.0,
        top_p=0.5,
        seed=4,
        stop=("end",),
        logprobs=2,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
    )


@pytest.mark.parametrize(
    ("given", "prompts"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2]], [[1], [2]]),
        (["a", [1]], ["a", [1]]),
    ],
)
def test_a_prompt_has_all_of_openais_forms(given: Any, prompts: list[Any]) -> None:
    assert parsed_completion(prompt=given).prompt == prompts


def test_parts_of_a_message_are_joined() -> None:
    parts = [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]
    asked = parsed_chat(messages=[{"role": "user", "content": parts}])
    assert asked.messages[0].content == "one\ntwo"


def test_an_answer_can_be_sent_back_as_it_came() -> None:
    answer = {"role": "assistant", "content": "hi", "refusal": None, "annotations": [], "audio": None}
    assert parsed_chat(messages=[*HELLO, answer, *HELLO]).messages[1].content == "hi"


@pytest.mark.parametrize(
    ("parameters", "sampling"),
    [
        ({}, Sampling(max_tokens=2**31 - 1, temperature=1.0)),
        ({"do_sample": False}, Sampling(max_tokens=2**31 - 1, temperature=0.0)),
        (
            {
                "temperature": 0.6,
                "top_p": 0.9,
                "do_sample": True,
                "max_new_tokens": 200,
                "stop": ["x"],
                "seed": 1,
            },
            Sampling(max_tokens=200, temperature=0.6, top_p=0.9, stop=("x",), seed=1),
        ),
        ({"return_full_text": False, "max_new_tokens": 1}, Sampling(max_tokens=1, temperature=1.0)),
    ],
)
def test_azures_parameters_mean_what_they_say(parameters: dict[str, Any], sampling: Sampling) -> None:
    assert parsed_score(**parameters).sampling() == sampling


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"do_sample": False, "temperature": 0.7}, "input_data.parameters"),
        ({"return_full_text": True}, "input_data.parameters.return_full_text"),
        ({"return_full_text": 0}, "input_data.parameters.return_full_text"),
        ({"top_k": 5}, "input_data.parameters.top_k"),
    ],
)
def test_an_azure_parameter_that_would_be_ignored_is_refused(parameters: dict[str, Any], param: str) -> None:
    with pytest.raises(Refused) as refused:
        parsed_score(**parameters)
    assert refused.value.param == param


def test_the_reference_lists_every_parameter() -> None:
    models = (chat.ChatRequest, completions.CompletionRequest, score.ScoreParameters)
    known = {name for model in models for name in model.model_fields}
    text = REFERENCE.read_text()
    assert [name for name in {*known, *chat.HARMLESS, *completions.HARMLESS} if f"`{name}`" not in text] == []
