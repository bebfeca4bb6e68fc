"""Conversations: OpenAI's and Azure's `messages`, and ShareGPT's `conversations`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NoReturn

from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.examples import Example, RowError, Turn, refuse
from fettle_trainer.strict_json import shown

if TYPE_CHECKING:
    from fettle_trainer.config.dataset import Columns
    from fettle_trainer.data.examples import Interpreter

_ROLES: Final = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
_SHAREGPT_ROLES: Final = _ROLES | {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "observation": "tool",
}


def chat_interpreter(columns: Columns) -> Interpreter:
    """Return what understands rows with `messages` of `role` and `content`."""
    return _Conversation(columns, "messages", "role", "content", _ROLES).interpret


def sharegpt_interpreter(columns: Columns) -> Interpreter:
    """Return what understands rows with `conversations` of `from` and `value`."""
    return _Conversation(columns, "conversations", "from", "value", _SHAREGPT_ROLES).interpret


class _Conversation:
    """The names of one dataset's fields."""

    def __init__(
        self, columns: Columns, messages: str, role: str, content: str, roles: dict[str, str]
    ) -> None:
        self._messages = columns.messages or messages
        self._role = columns.role or role
        self._content = columns.content or content
        self._tools = columns.tools or "tools"
        self._system = columns.system or "system"
        named = columns.roles.model_dump(exclude_none=True)
        self._roles = roles | {name: role for role, name in named.items()}

    def interpret(self, value: dict[str, Any]) -> Example:
        """Understand one row."""
        messages = value.get(self._messages)
        if not isinstance(messages, list):
            found = "is missing" if messages is None else "is not a list"
            refuse(
                FindingCode.FIELD_MISSING if messages is None else FindingCode.WRONG_TYPE,
                self._messages,
                f"{self._messages} {found}; a conversation is a list of messages.",
            )
        if not messages:
            refuse(FindingCode.EMPTY_TEXT, self._messages, "The conversation is empty.")
        turns = self._turns(messages)
        prompt = value.get(self._system)
        if isinstance(prompt, str) and prompt.strip() and turns[0].role != "system":
            turns.insert(0, Turn("system", prompt, trained=False))
        self._check_order(turns)
        tools = value.get(self._tools)
        if tools is not None and not isinstance(tools, list | str):
            refuse(FindingCode.WRONG_TYPE, self._tools, "tools is not a list of tool definitions.")
        return Example(tuple(turns), tools=tools)

    def _turns(self, messages: list[Any]) -> list[Turn]:
        turns: list[Turn] = []
        try:
            for message in messages:
                turns.append(self._turn(message))  # noqa: PERF401 - their number tells where it went wrong
        except RowError as error:
            # Only here is a message's place written out: most messages are right, and there are very many.
            where = f"{self._messages}[{len(turns)}]"
            refuse(error.code, f"{where}.{error.field}" if error.field else where, error.message)
        return turns

    def _turn(self, message: object) -> Turn:
        if not isinstance(message, dict):
            refuse(
                FindingCode.WRONG_TYPE, "", f"A message is an object with {self._role} and {self._content}."
            )
        name = message.get(self._role)
        role: str | None = self._roles.get(name) if isinstance(name, str) else None
        if role is None:
            self._refuse_role(name)
        calls = message.get("tool_calls")
        if calls is not None:
            _check_calls(calls, role)
        calls = calls or _legacy_call(message.get("function_call"), role)
        text = message.get(self._content)
        if not isinstance(text, str):
            text = self._text(text, may_be_missing=bool(calls))
        # A tool may well have nothing to say.
        if not calls and role != "tool" and (not text or text.isspace()):
            refuse(FindingCode.EMPTY_TEXT, self._content, "The message is empty. Remove the turn or the row.")
        weight = message.get("weight")
        trained = role == "assistant" if weight is None else _weight(weight, role)
        if role == "tool":
            return Turn(
                role, text, trained, calls, _word(message.get("name")), _word(message.get("tool_call_id"))
            )
        return Turn(role, text, trained, calls)

    def _refuse_role(self, name: object) -> NoReturn:
        if name is None:
            message = f"The message does not say who speaks: {self._role} is missing."
            refuse(FindingCode.FIELD_MISSING, self._role, message)
        known = ", ".join(sorted(self._roles))
        message = f"The role {shown(str(name), 40)} is unknown; known are {known}. Others are named in columns.roles."
        refuse(FindingCode.ROLE_UNKNOWN, self._role, message)

    def _text(self, content: object, *, may_be_missing: bool) -> str:
        if content is None and may_be_missing:
            return ""
        if content is None:
            message = f"The message says nothing: {self._content} is missing."
            refuse(FindingCode.FIELD_MISSING, self._content, message)
        if not isinstance(content, list):
            refuse(FindingCode.WRONG_TYPE, self._content, f"{self._content} is not a text.")
        return "".join(_part(part, f"{self._content}[{index}]") for index, part in enumerate(content))

    def _check_order(self, turns: list[Turn]) -> None:
        roles = [turn.role for turn in turns]
        body = roles[1:] if roles[0] == "system" else roles
        if "system" in body:
            message = "A system message stands behind the beginning; there is one, and it comes first."
            refuse(FindingCode.ROLE_ORDER, self._messages, message)
        if not body or body[0] != "user":
            message = f"The first turn is the {(body or roles)[0]}'s; a conversation begins with the user."
            refuse(FindingCode.ROLE_ORDER, self._messages, message)
        if body[-1] != "assistant":
            message = f"The last turn is the {body[-1]}'s; it must be the assistant's, or there is no answer to learn."
            refuse(FindingCode.ROLE_ORDER, self._messages, message)
        if "tool" in body and "user tool" in " ".join(body):
            message = "A tool's answer does not follow the assistant's call."
            refuse(FindingCode.ROLE_ORDER, self._messages, message)
        if not any(turn.trained for turn in turns):
            message = "No assistant turn is trained: all have weight 0. Remove the row."
            refuse(FindingCode.NOTHING_TO_TRAIN, self._messages, message)


def _part(part: object, place: str) -> str:
    text = part.get("text") if isinstance(part, dict) and part.get("type", "text") == "text" else part
    if not isinstance(text, str):
        message = 'A part of a message is {"type": "text", "text": "…"}; only text is trained.'
        refuse(FindingCode.WRONG_TYPE, place, message)
    return text


def _word(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _weight(weight: object, role: str) -> bool:
    if role != "assistant":
        refuse(
            FindingCode.WEIGHT_INVALID,
            "weight",
            f"weight stands on a {role} message; only assistant messages have one.",
        )
    if isinstance(weight, bool) or not isinstance(weight, int | float) or weight not in {0, 1}:
        refuse(
            FindingCode.WEIGHT_INVALID,
            "weight",
            f"weight is {shown(str(weight), 20)}; it is 0 (not trained) or 1.",
        )
    return bool(weight)


def _check_calls(calls: object, role: str) -> None:
    if role != "assistant":
        refuse(
            FindingCode.TOOL_CALL_INVALID,
            "tool_calls",
            f"tool_calls stand on a {role} message; the assistant calls tools.",
        )
    if not isinstance(calls, list):
        refuse(FindingCode.TOOL_CALL_INVALID, "tool_calls", "tool_calls is not a list.")
    for index, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not _is_function(function):
            refuse(
                FindingCode.TOOL_CALL_INVALID,
                f"tool_calls[{index}]",
                'A call is {"type": "function", "function": {"name": "…", "arguments": "…"}}.',
            )


def _legacy_call(call: object, role: str) -> object:
    """Accept the one call that a message could hold before there were tool_calls."""
    if call is not None and not (role == "assistant" and isinstance(call, dict) and _is_function(call)):
        refuse(
            FindingCode.TOOL_CALL_INVALID,
            "function_call",
            'function_call is {"name": "…", "arguments": "…"}, on an assistant message. Better write tool_calls.',
        )
    return call


def _is_function(function: dict[str, Any]) -> bool:
    name = function.get("name")
    return isinstance(name, str) and bool(name) and isinstance(function.get("arguments", ""), str | dict)
