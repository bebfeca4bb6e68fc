"""The public paths as an OpenAPI document, made from the very models that requests are checked with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import models_json_schema

from fettle_server.api import chat, completions
from fettle_server.api.reply_schemas import REPLIES
from fettle_server.api.score import ScoreRequest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel

__all__ = ["document"]

_REF: Final = "#/components/schemas/{model}"
_REFUSALS: Final = {
    "400": "A parameter is wrong, unknown or not supported; `param` names it.",
    "404": "No such model, revision or path.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "415": "The body is no JSON.",
    "429": "The queue is full; Retry-After says when to try again.",
    "500": "Generating failed.",
    "503": "The revision is not loaded, or the server is about to stop; Retry-After says when to try again.",
}


def document() -> dict[str, Any]:
    """Return the whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fettle model server",
            "version": "1",
            "description": "OpenAI's API for a base model and its adapters.",
        },
        "paths": {
            "/v1/chat/completions": {
                "post": _asking("Continue a conversation", "ChatRequest", "ChatCompletion", streams=True)
            },
            "/v1/completions": {
                "post": _asking("Continue a text", "CompletionRequest", "Completion", streams=True)
            },
            "/score": {
                "post": _asking("Continue a conversation, in Azure ML's words", "ScoreRequest", "Score")
            },
            "/v1/models": {"get": _getting("List the models", "ModelList")},
            "/v1/models/{model}": {
                "parameters": [_parameter("model", "path")],
                "get": _getting("Describe a model", "Model", "404"),
            },
            "/healthz": {"get": _getting("Whether the server works", "Health", "503", error="Health")},
            "/readyz": {"get": _getting("Whether it wants requests", "Health", "503", error="Health")},
        },
        "components": {"schemas": {**_requests(), **REPLIES}},
    }


def _requests() -> dict[str, Any]:
    models: list[type[BaseModel]] = [chat.ChatRequest, completions.CompletionRequest, ScoreRequest]
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    definitions: dict[str, Any] = schemas["$defs"]
    _add_harmless(definitions["ChatRequest"], chat.HARMLESS)
    _add_harmless(definitions["CompletionRequest"], completions.HARMLESS)
    return definitions


def _add_harmless(schema: dict[str, Any], harmless: Mapping[str, Sequence[Any]]) -> None:
    """Show what is accepted for its values that ask for nothing."""
    for name, values in harmless.items():
        schema["properties"][name] = {"enum": list(values), "description": "Not supported beyond this."}


def _asking(summary: str, request: str, reply: str, *, streams: bool = False) -> dict[str, Any]:
    content = _json(reply)
    if streams:
        # OpenAPI 3.1 has no word for the events of a stream; tools take any schema here for that of one event.
        content["text/event-stream"] = {}
    return {
        "summary": summary,
        "parameters": [_parameter("x-fettle-revision", "header")],
        "requestBody": {"required": True, "content": _json(request)},
        "responses": {
            "200": {
                "description": "The answer.",
                "headers": {
                    name: {"schema": {"type": "string"}} for name in ("x-fettle-revision", "x-request-id")
                },
                "content": content,
            },
            **{status: {"description": why, "content": _json("Error")} for status, why in _REFUSALS.items()},
        },
    }


def _getting(summary: str, reply: str, *refusals: str, error: str = "Error") -> dict[str, Any]:
    return {
        "summary": summary,
        "responses": {
            "200": {"description": "It.", "content": _json(reply)},
            **{status: {"description": _REFUSALS[status], "content": _json(error)} for status in refusals},
        },
    }


def _json(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(model=schema)}}}


def _parameter(name: str, place: str) -> dict[str, Any]:
    return {"name": name, "in": place, "required": place == "path", "schema": {"type": "string"}}
