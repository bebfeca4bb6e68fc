"""JSON as the standard means it: no key twice, no NaN, no half characters, no endless nesting."""

from __future__ import annotations

import json
from typing import Any, NoReturn


class StrictJsonError(ValueError):
    """The text is not JSON, or not JSON that every reader understands alike."""


def loads(data: bytes) -> Any:
    """Return the value of a UTF-8 JSON document."""
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        msg = f"byte {error.start} is not UTF-8"
        raise StrictJsonError(msg) from error
    except RecursionError as error:
        msg = "it is nested too deeply"
        raise StrictJsonError(msg) from error
    except StrictJsonError:
        raise
    except ValueError as error:
        raise StrictJsonError(str(error)) from error
    return value


def shown(text: str, limit: int = 120) -> str:
    """Foreign text as it may stand in a message: quoted, escaped, not endless."""
    return json.dumps(text if len(text) <= limit else text[:limit] + "…")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            msg = f"the key {shown(key)} stands twice in one object"
            raise StrictJsonError(msg)
        result[key] = value
    return result


def _no_constant(word: str) -> NoReturn:
    msg = f"{word} is no JSON value"
    raise StrictJsonError(msg)
