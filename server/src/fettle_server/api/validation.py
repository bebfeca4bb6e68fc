"""A parsed body against its model: what is wrong becomes one sentence that names the parameter.

Nothing is silently ignored: a parameter that is unknown is refused, and so is one that OpenAI has and this server
has not, unless it is given the value that it has anyhow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, WithJsonSchema

from fettle_server.layer.asgi import Refused
from fettle_trainer.strict_json import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic_core import ErrorDetails

__all__ = ["OnlyFalse", "Parameters", "refuse_unsupported", "validated"]


class Parameters(BaseModel):
    """What every object in a request has in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


def _false(value: bool) -> bool:
    if value:
        raise ValueError("only false is supported.")
    return value


OnlyFalse = Annotated[bool, AfterValidator(_false), WithJsonSchema({"const": False})]
"""A switch that can only be off; Literal[False] would take 0 for it."""

_ROLES: Final = frozenset({"system", "developer", "user", "assistant", "tool"})
"""Stand in pydantic's places for the kind of message, and are no parameters."""
_Model = TypeVar("_Model", bound=BaseModel)


def validated(model: type[_Model], document: Mapping[str, Any]) -> _Model:
    """Return the request, or refuse it for the first thing that is wrong."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise _refused(error.errors(include_url=False)[0]) from None


def refuse_unsupported(document: dict[str, Any], harmless: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return the body without the parameters that only say what holds anyhow; refuse them with other values."""
    for name, values in harmless.items():
        if name in document and not any(_same(document[name], value) for value in values):
            raise Refused(
                400, "unsupported_parameter", f"Unsupported parameter: '{name}'. Leave it out.", name
            )
    return {name: value for name, value in document.items() if name not in harmless}


def _same(given: Any, value: Any) -> bool:
    return type(given) is type(value) and bool(given == value)


def _refused(problem: ErrorDetails) -> Refused:
    param = _path(problem["loc"])
    match problem["type"]:
        case "missing":
            return Refused(
                400, "missing_required_parameter", f"Missing required parameter: '{param}'.", param
            )
        case "union_tag_not_found":
            return Refused(
                400,
                "missing_required_parameter",
                f"Missing required parameter: '{param}.role'.",
                f"{param}.role",
            )
        case "union_tag_invalid":
            said = f"Invalid '{param}.role': one of {problem['ctx']['expected_tags']} is wanted."
            return Refused(400, "invalid_value", said, f"{param}.role")
        case "extra_forbidden":
            return Refused(400, "unknown_parameter", f"Unknown parameter: {shown(param)}.", param[:128])
        case "value_error":
            said = str(problem["ctx"]["error"])
            return Refused(
                400, "invalid_value", f"Invalid '{param}': {said}" if param else said, param or None
            )
        case _:
            return Refused(400, "invalid_value", f"Invalid '{param}': {problem['msg']}.", param)


def _path(parts: Sequence[str | int]) -> str:
    """Write a place as OpenAI does: `messages[0].content`."""
    path = ""
    for part in parts:
        if part in _ROLES:
            continue
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
