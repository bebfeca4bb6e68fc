"""What the model reads: made by its revision's own template and tokenizer, beside the event loop."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from fettle_server.api.messages import template_messages, template_tools
from fettle_server.layer.asgi import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fettle_server.api.messages import Message, Tool
    from fettle_server.api.port import Text
    from fettle_server.api.serving import Serving

__all__ = ["Prompts"]

_Written = TypeVar("_Written")


class Prompts:
    """Writes prompts in one thread: a long one must not hold up the others' tokens, and tokenizers are not shared."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prompts")

    async def of_chat(
        self, revision: str, messages: list[Message], tools: list[Tool] | None = None
    ) -> list[int]:
        """Return a conversation; refuse what the revision's template does not show to the model."""
        return await self._run(partial(_chat, self._serving.running.text_of(revision), messages, tools))

    async def of_texts(self, revision: str, prompts: Sequence[str | list[int]]) -> list[list[int]]:
        """Return plain texts; those that are tokens already stay as they are."""
        return await self._run(partial(_texts, self._serving.running.text_of(revision), prompts))

    async def _run(self, write: Callable[[], _Written]) -> _Written:
        return await asyncio.get_running_loop().run_in_executor(self._thread, write)


def _chat(text: Text, messages: list[Message], tools: list[Tool] | None) -> list[int]:
    turns = template_messages(messages)
    shown = template_tools(tools)
    prompt = text.chat(turns, shown)
    if shown and prompt == text.chat(turns):
        raise _not_shown("tools", "tools")
    if any(message.name is not None for message in messages):
        nameless = template_messages(messages, names=False)
        if prompt == text.chat(nameless, shown):
            raise _not_shown("the names of participants", "messages")
    return _not_empty(prompt, "messages")


def _texts(text: Text, prompts: Sequence[str | list[int]]) -> list[list[int]]:
    return [
        _not_empty(text.encode(prompt) if isinstance(prompt, str) else prompt, "prompt") for prompt in prompts
    ]


def _not_shown(what: str, param: str) -> Refused:
    message = f"This model's chat template does not show {what} to the model. Leave them out."
    return Refused(400, "unsupported_parameter", message, param)


def _not_empty(tokens: list[int], param: str) -> list[int]:
    if not tokens:
        raise Refused(
            400, "invalid_value", f"Invalid '{param}': nothing is left for the model to read.", param
        )
    return tokens
