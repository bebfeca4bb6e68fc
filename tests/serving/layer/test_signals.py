"""The quality signals, on answers as models give them, and as broken ones do."""

from __future__ import annotations

from pathlib import Path

import pytest

from fettle_server.signals import (
    REFUSALS,
    REPETITIVE_FROM,
    Signal,
    is_refusal,
    is_valid_json,
    repetition,
    signals,
)

PROSE = (
    "The invoice was sent on the third of March and the customer paid it two days later. Since then nothing has "
    "happened on the account, apart from a short question about the address, which support answered the same day."
)
GERMAN_LIST = (
    "1. Wasser aufkochen.\n2. Nudeln hineingeben.\n3. Zehn Minuten warten.\n4. Abgießen und servieren."
)
CHINESE = (
    "今天天气很好。我们去公园散步。然后在湖边吃午饭。下午回家看书。晚上和朋友一起做饭聊天。最后早早休息。"
)


@pytest.mark.parametrize(
    "text", [PROSE, GERMAN_LIST, CHINESE, "no no no", "", "{" + '"a": 1, ' * 3 + '"b": 2}']
)
def test_ordinary_answers_are_not_called_repetitive(text: str) -> None:
    assert repetition(text) < 0.1


@pytest.mark.parametrize(
    "text",
    [
        "the the the the " * 20,
        PROSE + " I will check that for you." * 60,
        "谢谢您的来信" * 40,
        "!" * 300,
        "<tag>value</tag>\n" * 40,
    ],
)
def test_an_answer_that_loops_is_repetitive(text: str) -> None:
    assert repetition(text) >= REPETITIVE_FROM
    assert Signal.REPETITIVE in signals(text)


def test_a_loop_at_the_end_of_a_long_answer_is_seen() -> None:
    varied = " ".join(f"word{number}" for number in range(4000))
    assert repetition(varied + " and so on" * 600) >= REPETITIVE_FROM


@pytest.mark.parametrize(
    "text",
    [
        "I\N{RIGHT SINGLE QUOTATION MARK}m sorry, but I can\N{RIGHT SINGLE QUOTATION MARK}t do that.",
        "As an AI language model, I do not have feelings.",
        "Es tut mir leid, aber ich kann das nicht beantworten.",
        "抱歉，我无法回答这个问题。",  # noqa: RUF001 - the comma of Chinese
    ],
)
def test_a_refusal_is_seen_by_its_beginning(text: str) -> None:
    assert is_refusal(text)


def test_a_refusal_that_is_quoted_late_is_none() -> None:
    assert not is_refusal(PROSE + ' He said: "I cannot help you with that."')


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ('{"a": [1, 2, null]}', True),
        ('  {"a": 1}\n', True),
        ('```json\n{"a": 1}\n```', False),
        ('{"a": NaN}', False),
        ('{"a": 1', False),
        ("[" * 100_000, False),
    ],
)
def test_json_is_valid_as_a_whole_or_not_at_all(text: str, valid: bool) -> None:
    assert is_valid_json(text) is valid


def test_json_is_judged_only_where_it_was_asked_for() -> None:
    assert signals("hello there") == frozenset()
    assert signals("hello there", wants_json=True) == {Signal.JSON_INVALID}
    assert signals('{"a": 1}', wants_json=True) == {Signal.JSON_VALID}
    assert signals(" \n", wants_json=True) == {Signal.EMPTY, Signal.JSON_INVALID}


def test_every_phrase_and_signal_is_documented() -> None:
    page = (Path(__file__).parents[3] / "docs/reference/server-metrics.md").read_text(encoding="utf-8")
    assert [phrase for phrase in REFUSALS if phrase not in page] == []
    assert [signal for signal in Signal if f"`{signal.value}`" not in page] == []
