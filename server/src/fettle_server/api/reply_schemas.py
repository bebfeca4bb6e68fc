"""What the replies look like, as JSON schemas for the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

__all__ = ["REPLIES"]

_STRING: Final = {"type": "string"}
_INTEGER: Final = {"type": "integer"}
_NUMBER: Final = {"type": "number"}


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _list(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_FINISH: Final = {"enum": ["stop", "length"]}
_TOKEN: Final = {"token": _STRING, "logprob": _NUMBER, "bytes": _list(_INTEGER)}
_HEAD: Final = {"id": _STRING, "created": _INTEGER, "model": _STRING, "system_fingerprint": _STRING}

_CHAT_LOGPROBS: Final = _object(
    {
        "content": _list(_object({**_TOKEN, "top_logprobs": _list(_object(_TOKEN))})),
        "refusal": {"type": "null"},
    }
)
_CHAT_CHOICE: Final = _object(
    {
        "index": _INTEGER,
        "message": _object({"role": {"const": "assistant"}, "content": _STRING, "refusal": {"type": "null"}}),
        "logprobs": _or_null(_CHAT_LOGPROBS),
        "finish_reason": _FINISH,
    }
)
_LOGPROBS: Final = _object(
    {
        "tokens": _list(_STRING),
        "token_logprobs": _list(_NUMBER),
        "top_logprobs": _list({"type": "object", "additionalProperties": _NUMBER}),
        "text_offset": _list(_INTEGER),
    }
)
_CHOICE: Final = _object(
    {"text": _STRING, "index": _INTEGER, "logprobs": _or_null(_LOGPROBS), "finish_reason": _FINISH}
)

REPLIES: Final[dict[str, dict[str, Any]]] = {
    "Usage": _object({"prompt_tokens": _INTEGER, "completion_tokens": _INTEGER, "total_tokens": _INTEGER}),
    "ChatCompletion": _object(
        {
            **_HEAD,
            "object": {"const": "chat.completion"},
            "choices": _list(_CHAT_CHOICE),
            "usage": _ref("Usage"),
        }
    ),
    "Completion": _object(
        {
            **_HEAD,
            "object": {"const": "text_completion"},
            "choices": _list(_CHOICE),
            "usage": _ref("Usage"),
        }
    ),
    "Score": _object({"output": _STRING}),
    "Model": _object(
        {
            "id": _STRING,
            "object": {"const": "model"},
            "created": _INTEGER,
            "owned_by": _STRING,
            "root": _STRING,
            "parent": _or_null(_STRING),
        }
    ),
    "ModelList": _object({"object": {"const": "list"}, "data": _list(_ref("Model"))}),
    "Health": _object({"status": _STRING}),
    "Error": _object(
        {
            "error": _object(
                {
                    "message": _STRING,
                    "type": _STRING,
                    "param": _or_null(_STRING),
                    "code": _or_null(_STRING),
                }
            )
        }
    ),
}
