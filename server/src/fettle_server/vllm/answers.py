"""vLLM's answer as the client is to see it: the name it used, no usage it did not ask for; and the notes for metrics.

A stream is passed on event by event, as it comes: what holds no whole event yet waits for the rest of it, nothing
waits for what follows it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from fettle_server.layer.facts import RequestFacts
    from fettle_server.vllm.requests import Asked

__all__ = ["EventStream", "whole_answer"]

_END: Final = b"\n\n"
_DATA: Final = b"data:"


class EventStream:
    """Rewrites a stream of server-sent events."""

    def __init__(self, asked: Asked, facts: RequestFacts) -> None:
        self._asked = asked
        self._facts = facts
        self._rest = b""

    def feed(self, data: bytes, *, last: bool) -> bytes:
        """Take bytes from vLLM; return those that the client gets now."""
        *events, self._rest = (self._rest + data).split(_END)
        # What a broken stream ends with is no event, and nobody's to complete.
        end = self._rest if last else b""
        return b"".join(map(self._rewritten, events)) + end

    def _rewritten(self, event: bytes) -> bytes:
        if not event.startswith(_DATA):
            return event + _END
        document = _parsed(event[len(_DATA) :])
        if document is None:
            return event + _END
        self._note(document)
        if not self._asked.wants_usage and _take_usage(document) and not document.get("choices"):
            return b""
        _show(document, self._asked)
        return _DATA + b" " + _dumped(document) + _END

    def _note(self, document: dict[str, Any]) -> None:
        facts = self._facts
        facts.response_id = facts.response_id or str(document.get("id") or "")
        if "error" in document:
            facts.failed = True
        for choice in document.get("choices") or ():
            index = choice.get("index", 0)
            delta = choice.get("delta") or {}
            text = delta.get("content") or choice.get("text") or ""
            if text or any(delta.get(name) for name in ("reasoning", "reasoning_content", "tool_calls")):
                facts.said(text, choice=index)
            if choice.get("finish_reason"):
                facts.finished(choice["finish_reason"], choice=index)
        _note_usage(document, facts)


def whole_answer(body: bytes, asked: Asked, facts: RequestFacts, *, score: bool) -> bytes:
    """Return an answer that came at once; an error keeps its text, but for the name."""
    document = _parsed(body)
    if document is None:
        return body
    if "choices" not in document:
        return body.replace(asked.lora_name.encode(), asked.shown.encode())
    facts.response_id = str(document.get("id") or "")
    for choice in document["choices"]:
        index = choice.get("index", 0)
        facts.said(_text(choice), tokens=0, choice=index)
        facts.finished(choice.get("finish_reason") or "", choice=index)
    _note_usage(document, facts)
    if score:
        return _dumped({"output": _text(document["choices"][0])})
    _show(document, asked)
    return _dumped(document)


def _text(choice: dict[str, Any]) -> str:
    return (choice.get("message") or {}).get("content") or choice.get("text") or ""


def _show(document: dict[str, Any], asked: Asked) -> None:
    if document.get("model") == asked.lora_name:
        document["model"] = asked.shown


def _take_usage(document: dict[str, Any]) -> bool:
    """Remove the usage; tell whether there was any."""
    return document.pop("usage", None) is not None


def _note_usage(document: dict[str, Any], facts: RequestFacts) -> None:
    usage = document.get("usage")
    if isinstance(usage, dict):
        # Exact where the pieces of a stream only say that something came.
        facts.tokens_in = usage.get("prompt_tokens") or 0
        facts.tokens_out = usage.get("completion_tokens") or 0


def _parsed(data: bytes) -> dict[str, Any] | None:
    try:
        document = json.loads(data)
    except ValueError:  # [DONE], and whatever else is no JSON
        return None
    return document if isinstance(document, dict) else None


def _dumped(document: dict[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
