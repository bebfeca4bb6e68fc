"""JSON text to a row's value, as strictly as the standard and with the place where it goes wrong."""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.problems import BadRow, Row
from fettle_trainer.strict_json import shown

MAX_ROW_BYTES: Final = 6 * 2**20
"""More than the longest context holds. Parsed, an object of empty lists takes thirty times the memory of its text."""


class _RefusedValueError(ValueError):
    """Valid for Python's parser, not for the standard."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        msg = f"the key {shown(twice, 60)} stands twice in one object"
        raise _RefusedValueError(msg)
    return value


def _no_constant(word: str) -> NoReturn:
    msg = f"{word} is no JSON value; write null or a number"
    raise _RefusedValueError(msg)


DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def parse_row(data: bytes, line: int) -> Row | BadRow:
    """Turn the bytes of one line into a row."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadRow(
            line,
            FindingCode.NOT_UTF8,
            f"Byte {error.start + 1} of the line is not UTF-8.",
            column=error.start + 1,
        )
    try:
        value, end = DECODER.raw_decode(text, len(text) - len(text.lstrip(" \t\r\n")))
    except (ValueError, RecursionError) as error:
        return bad_json(error, line)
    rest = text[end:].lstrip(" \t\r\n")
    if rest:
        column = len(text) - len(rest) + 1
        return BadRow(line, FindingCode.INVALID_JSON, _surplus(rest), column=column)
    return as_row(value, line)


def as_row(value: object, line: int) -> Row | BadRow:
    """Accept an object as a row; say what else it is."""
    if isinstance(value, dict):
        return Row(line, value)
    names = {list: "a list", str: "a text", bool: "a truth value", type(None): "null"}
    kind = names.get(type(value), "a number")
    return BadRow(line, FindingCode.NOT_AN_OBJECT, f'A row is an object such as {{"text": "…"}}, not {kind}.')


def bad_json(error: Exception, line: int) -> BadRow:
    """Say why the parser gave up."""
    if isinstance(error, RecursionError):
        return BadRow(line, FindingCode.INVALID_JSON, "The row is nested too deeply.")
    if isinstance(error, json.JSONDecodeError):
        message = f"Not valid JSON: {error.msg[:1].lower()}{error.msg[1:]}."
        return BadRow(line, FindingCode.INVALID_JSON, message, column=error.pos + 1)
    if isinstance(error, _RefusedValueError):
        return BadRow(line, FindingCode.INVALID_JSON, f"Not valid JSON: {error}.")
    return BadRow(line, FindingCode.INVALID_JSON, "Not valid JSON: a number has too many digits.")


def _surplus(rest: str) -> str:
    if rest.startswith(("{", "[")):
        return "A second value stands on the same line; write one object per line."
    return "Something stands behind the object; write one object per line and nothing else."
