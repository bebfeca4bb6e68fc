"""A row's turns as the messages that chat templates read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.examples import refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fettle_trainer.data.examples import Turn

Message = dict[str, Any]


def messages_of(turns: Sequence[Turn], *, fold_system: bool) -> list[Message]:
    """Return one message per turn; with `fold_system` the system's words begin the first user turn."""
    messages = [_message(turn) for turn in turns]
    if not fold_system or messages[0]["role"] != "system":
        return messages
    system, *rest = messages
    folded = {**rest[0], "content": f"{system['content']}\n\n{rest[0]['content']}"}
    return [folded, *rest[1:]]


def tool_definitions(tools: Any) -> list[dict[str, Any]] | None:
    """Return a row's tools as a list of objects, whether it holds the list or its JSON text."""
    if tools is None or tools == "":
        return None
    try:
        found = json.loads(tools) if isinstance(tools, str) else tools
    except (ValueError, RecursionError):
        refuse(
            FindingCode.WRONG_TYPE,
            "tools",
            "tools is a text, and not JSON. Write a list of tool definitions.",
        )
    if not isinstance(found, list) or not all(isinstance(tool, dict) for tool in found):
        refuse(FindingCode.WRONG_TYPE, "tools", "tools is not a list of tool definitions, each an object.")
    return found or None


def _message(turn: Turn) -> Message:
    message: Message = {"role": turn.role, "content": turn.text}
    if turn.calls:
        message["tool_calls"] = _calls(turn.calls)
    if turn.name is not None:
        message["name"] = turn.name
    if turn.call_id is not None:
        message["tool_call_id"] = turn.call_id
    return message


def _calls(calls: Any) -> list[dict[str, Any]]:
    """Bring calls into the one form that templates agree on: arguments as objects, and a type."""
    listed = calls if isinstance(calls, list) else [{"function": calls}]
    return [{"type": "function", **call, "function": _function(call["function"])} for call in listed]


def _function(function: dict[str, Any]) -> dict[str, Any]:
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        # OpenAI writes the arguments as JSON text; templates print objects, and would quote a text once more.
        try:
            parsed = json.loads(arguments)
        except (ValueError, RecursionError):
            parsed = None
        arguments = parsed if isinstance(parsed, dict) else arguments
    return {**function, "arguments": arguments}
