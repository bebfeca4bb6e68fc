"""A conversation as clients write it, and as chat templates read it."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from fettle_server.api.validation import OnlyFalse, Parameters

__all__ = ["Conversation", "Message", "Tool", "template_messages", "template_tools"]

_MOST_MESSAGES: Final = 4096
_TEMPLATE_ROLES: Final = {"developer": "system"}
"""OpenAI's newer word is not known to chat templates."""
_NOT_TEXT: Final = 'write a text, or a list of parts {"type": "text", "text": "…"}. Images, audio and files are not supported.'


def _joined(value: Any) -> Any:
    """Return the text of a content that is given in parts."""
    if not isinstance(value, list):
        if not isinstance(value, str):
            raise ValueError(_NOT_TEXT)  # noqa: TRY004 - pydantic wants a ValueError
        return value
    for part in value:
        plain = isinstance(part, dict) and part.keys() == {"type", "text"} and part["type"] == "text"
        if not (plain and isinstance(part["text"], str)):
            raise ValueError(_NOT_TEXT)
    return "\n".join(part["text"] for part in value)


_CONTENT_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
                "required": ["type", "text"],
                "additionalProperties": False,
            },
        },
    ]
}

Content = Annotated[str, BeforeValidator(_joined), WithJsonSchema(_CONTENT_SCHEMA)]


class CalledFunction(Parameters):
    """What an assistant called."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    arguments: str
    """A JSON object as text."""


class ToolCall(Parameters):
    """One call of a tool by the assistant."""

    id: Annotated[str, Field(max_length=128)] | None = None
    type: Literal["function"] = "function"
    function: CalledFunction


Name = Annotated[str, Field(min_length=1, max_length=64)]
"""Tells participants of one role apart, where the chat template shows it."""


class SystemMessage(Parameters):
    """What holds for the whole conversation; developer is OpenAI's newer word for it."""

    role: Literal["system", "developer"]
    content: Content
    name: Name | None = None


class UserMessage(Parameters):
    """What a user says."""

    role: Literal["user"]
    content: Content
    name: Name | None = None


class AssistantMessage(Parameters):
    """What the model has said; answers of this server can be sent back as they are."""

    role: Literal["assistant"]
    content: Content | None = None
    name: Name | None = None
    tool_calls: Annotated[list[ToolCall], Field(max_length=128)] | None = None
    refusal: None = None
    audio: None = None
    function_call: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.content is None and not self.tool_calls:
            raise ValueError("content is missing.")
        return self


class ToolMessage(Parameters):
    """What a tool has answered."""

    role: Literal["tool"]
    content: Content
    tool_call_id: Annotated[str, Field(max_length=128)]
    name: Name | None = None


Message = Annotated[SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")]
Conversation = Annotated[list[Message], Field(min_length=1, max_length=_MOST_MESSAGES)]


class Function(Parameters):
    """A function that the model may call."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    parameters: dict[str, Any] | None = None
    """JSON schema of its arguments."""
    strict: OnlyFalse | None = None
    """Arguments are not forced into the schema."""


class Tool(Parameters):
    """A tool that is shown to the model."""

    type: Literal["function"]
    function: Function


def template_messages(messages: list[Message], *, names: bool = True) -> list[dict[str, Any]]:
    """Return the turns as chat templates read them; without the names where they are not wanted."""
    left_out = {"annotations"} if names else {"annotations", "name"}
    written = [message.model_dump(exclude_none=True, exclude=left_out) for message in messages]
    return [
        {"content": "", **turn, "role": _TEMPLATE_ROLES.get(turn["role"], turn["role"])} for turn in written
    ]


def template_tools(tools: list[Tool] | None) -> list[dict[str, Any]] | None:
    """Return the tools as templates print them: nothing that was not given."""
    return [tool.model_dump(exclude_none=True) for tool in tools] if tools else None
