"""A client's body as vLLM is to see it: another model name, the adapter's own template, usage asked for. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fettle_server.api.score import ScoreRequest
from fettle_server.api.validation import validated
from fettle_server.layer.asgi import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fettle_server.vllm.loadable import Target

__all__ = ["SCORE", "Asked", "rewritten"]

SCORE: Final = "/score"
_CHAT: Final = "/v1/chat/completions"

_OURS: Final = (
    "chat_template",
    "ec_transfer_params",
    "kv_transfer_params",
    "media_io_kwargs",
    "mm_payload",
    "mm_processor_kwargs",
    "priority",
    "request_id",
    "vllm_xargs",
)
"""Fields of vLLM's own that are the server's to set: ids, order, templates, peers and what its plugins obey."""
_SHADOW_PRIORITY: Final = 1
"""Any number above the users' 0."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A rewritten request, and what has to be known of it when the answer comes."""

    path: str
    body: bytes
    shown: str
    """The model's name in the answer: the one that the client used."""
    lora_name: str
    """The one that vLLM uses."""
    stream: bool
    wants_usage: bool
    wants_json: bool


def rewritten(
    path: str, document: dict[str, Any], alias: str, target: Target | None, *, shadow: bool
) -> Asked:
    """Return the request to vLLM for an adapter, or for the base where there is no target."""
    if path == SCORE:
        path, document = _CHAT, _score_as_chat(document)
    _refuse_ours(document)
    shown = document.get("model", alias)
    name = alias if target is None else target.lora_name
    stream = document.get("stream") is True
    options = document.get("stream_options")
    given: dict[str, Any] = options if isinstance(options, dict) else {}
    changed = {**document, "model": name}
    if shadow:
        changed["priority"] = _SHADOW_PRIORITY
    if stream and isinstance(options, dict | None):
        changed["stream_options"] = _with_usage(given)
    if target is not None:
        _speak_as(target, changed, path)
    return Asked(
        path=path,
        body=json.dumps(changed, separators=(",", ":")).encode(),
        shown=str(shown),
        lora_name=name,
        stream=stream,
        wants_usage=given.get("include_usage") is True,
        wants_json=_wants_json(document),
    )


def _refuse_ours(document: Mapping[str, Any]) -> None:
    for name in _OURS:
        if document.get(name) is not None:
            raise Refused(
                400, "unsupported_parameter", f"Unsupported parameter: '{name}'. Leave it out.", name
            )
    more = document.get("chat_template_kwargs")
    if isinstance(more, dict) and "chat_template" in more:
        where = "chat_template_kwargs.chat_template"
        raise Refused(400, "unsupported_parameter", f"Unsupported parameter: '{where}'. Leave it out.", where)


def _with_usage(options: Mapping[str, Any]) -> dict[str, Any]:
    """Ask for the usage, which the metrics need; without a client's wish it comes once, at the end."""
    kept = dict(options)
    if options.get("include_usage") is not True:
        kept.pop("continuous_usage_stats", None)
    return {**kept, "include_usage": True}


def _speak_as(target: Target, document: dict[str, Any], path: str) -> None:
    """Let the adapter speak its own language: vLLM knows the base's template and end of an answer only."""
    if path == _CHAT and target.template is not None:
        document["chat_template"] = target.template
    given = document.get("stop_token_ids")
    if target.stop_token_ids and (given is None or isinstance(given, list)):
        document["stop_token_ids"] = [*(given or ()), *target.stop_token_ids]


def _wants_json(document: Mapping[str, Any]) -> bool:
    wanted = document.get("response_format")
    return isinstance(wanted, dict) and wanted.get("type") in {"json_object", "json_schema"}


def _score_as_chat(document: dict[str, Any]) -> dict[str, Any]:
    """Say in OpenAI's words what Azure ML's payload asks."""
    given = validated(ScoreRequest, document).input_data
    parameters = given.parameters
    chat: dict[str, Any] = {"messages": document["input_data"]["input_string"]}
    if parameters is None:
        return chat
    wanted = {
        "temperature": 0.0 if parameters.do_sample is False else parameters.temperature,
        "top_p": parameters.top_p,
        "max_tokens": parameters.max_new_tokens,
        "seed": parameters.seed,
        "stop": list(parameters.stop) if parameters.stop else None,
    }
    return {**chat, **{name: value for name, value in wanted.items() if value is not None}}
