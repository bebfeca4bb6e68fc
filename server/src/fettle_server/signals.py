"""What an answer looks like from outside, without a judge: empty, repetitive, a refusal, valid JSON.

Cheap and approximate on purpose. One answer says little; the shares over many, compared between two revisions that
serve at the same time, show an adapter that broke. Everything here is pure.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Final, NoReturn

__all__ = ["REFUSALS", "REPETITIVE_FROM", "Signal", "is_refusal", "is_valid_json", "repetition", "signals"]

REPETITIVE_FROM: Final = 0.5
"""From this share of repeated pieces on an answer counts as repetitive; ordinary prose stays below 0.1."""

_READ_FOR_REPETITION: Final = 4_096
"""Characters, from the end: what loops keeps looping."""
_WORDS: Final = 4
_CHARACTERS: Final = 8
_FEWEST_PIECES: Final = 12
"""Fewer say nothing: "no no no" is an answer."""
_CHARACTERS_PER_SPACE: Final = 20
"""Text with fewer spaces than one in so many characters is compared by characters (Chinese, Japanese, Thai)."""

_READ_FOR_REFUSAL: Final = 200
"""Characters, from the beginning: a refusal comes first, later the words may be a quotation."""

REFUSALS: Final = (
    "i can't assist",
    "i can't help",
    "i can't provide",
    "i can't fulfill",
    "i cannot assist",
    "i cannot help",
    "i cannot provide",
    "i cannot fulfill",
    "i can not assist",
    "i'm sorry, but i can",
    "i am sorry, but i can",
    "i'm not able to help",
    "i'm unable to",
    "i am unable to",
    "i won't be able to",
    "as an ai language model, i",
    "ich kann dir dabei nicht helfen",
    "ich kann ihnen dabei nicht helfen",
    "dabei kann ich nicht helfen",
    "es tut mir leid, aber ich kann",
    "je ne peux pas vous aider",
    "je suis désolé, mais je ne peux pas",
    "lo siento, pero no puedo",
    "no puedo ayudarte",
    "desculpe, mas não posso",
    "mi dispiace, ma non posso",
    "het spijt me, maar ik kan",
    "к сожалению, я не могу",
    "抱歉，我无法",  # noqa: RUF001 - the comma of Chinese
    "很抱歉，我不能",  # noqa: RUF001 - as above
    "申し訳ありませんが",
    "죄송하지만",
)
"""How refusals begin, in lower case with straight quotes."""


class Signal(StrEnum):
    """What can be said of a finished answer; a closed list, stable names."""

    EMPTY = "empty"
    """Nothing but white space."""
    REPETITIVE = "repetitive"
    REFUSAL = "refusal"
    JSON_VALID = "json_valid"
    """JSON was asked for and came."""
    JSON_INVALID = "json_invalid"


def signals(text: str, *, wants_json: bool = False) -> frozenset[Signal]:
    """Return what is to be said of an answer's whole text."""
    if not text.strip():
        return frozenset({Signal.EMPTY, Signal.JSON_INVALID} if wants_json else {Signal.EMPTY})
    found = set()
    if repetition(text) >= REPETITIVE_FROM:
        found.add(Signal.REPETITIVE)
    if is_refusal(text):
        found.add(Signal.REFUSAL)
    if wants_json:
        found.add(Signal.JSON_VALID if is_valid_json(text) else Signal.JSON_INVALID)
    return frozenset(found)


def repetition(text: str) -> float:
    """Return the share of pieces that had been said before, 0 to 1, in the last characters of a text.

    A piece is four words in a row, or eight characters where a script has no spaces.
    """
    tail = text[-_READ_FOR_REPETITION:]
    words = tail.split()
    if len(words) * _CHARACTERS_PER_SPACE >= len(tail):
        pieces = [tuple(words[start : start + _WORDS]) for start in range(len(words) - _WORDS + 1)]
        return _repeated(pieces)
    joined = "".join(words)
    return _repeated([joined[start : start + _CHARACTERS] for start in range(len(joined) - _CHARACTERS + 1)])


def _repeated(pieces: list[str] | list[tuple[str, ...]]) -> float:
    if len(pieces) < _FEWEST_PIECES:
        return 0.0
    return 1 - len(set(pieces)) / len(pieces)


def is_refusal(text: str) -> bool:
    """Tell whether an answer begins like a refusal."""
    beginning = text.lstrip()[:_READ_FOR_REFUSAL].lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
    return any(phrase in beginning for phrase in REFUSALS)


def is_valid_json(text: str) -> bool:
    """Tell whether an answer is one JSON value and nothing else."""
    try:
        json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
