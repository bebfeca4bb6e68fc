"""A model's chat template: conversations as exactly the text, and the tokens, that the model is prompted with."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.examples import RowError
from fettle_trainer.errors import WrongInputError
from fettle_trainer.text.messages import messages_of, tool_definitions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from fettle_trainer.data.examples import Turn
    from fettle_trainer.text.messages import Message

Span = tuple[int, int]
"""Characters from the first to behind the last."""

_PROBE: Final = "fettleprobe"


class ChatTemplate:
    """The template that the tokenizer brings; its rendering is the one place where text for a model is made."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        try:
            self.text: str = tokenizer.get_chat_template()
        except ValueError as error:
            msg = f"The tokenizer brings no default chat template: {error}"
            raise WrongInputError("TemplateInvalid", msg, "model.path") from error
        self.digest = f"sha256:{hashlib.sha256(self.text.encode()).hexdigest()}"
        self._tokenizer = tokenizer
        self._check_bos()

    def render(
        self, turns: Sequence[Turn], tools: Any = None, *, add_generation_prompt: bool = False
    ) -> list[int]:
        """Return the tokens of a conversation; raise RowError if the template refuses it."""
        text = self.write(self.messages(turns), tool_definitions(tools), ask=add_generation_prompt)
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return tokens

    def messages(self, turns: Sequence[Turn]) -> list[Message]:
        """Return the turns as this template takes them."""
        return messages_of(turns, fold_system=not self.has_system_role)

    def write(
        self, messages: list[Message], tools: list[dict[str, Any]] | None = None, *, ask: bool = False
    ) -> str:
        """Return the text of messages; with `ask` up to where the model begins to answer."""
        return self._write(messages, tools, ask=ask, track=False)[0]

    def write_tracked(
        self, messages: list[Message], tools: list[dict[str, Any]] | None
    ) -> tuple[str, list[Span]]:
        """Return the text, and what stands between the template's generation markers."""
        return self._write(messages, tools, ask=False, track=True)

    @cached_property
    def has_system_role(self) -> bool:
        """Whether a system message is written at the head of a whole conversation.

        Gemma 2 refuses one, Mistral leaves it out of a conversation that ends with an answer. For both its words
        are put in front of the first user turn.
        """
        system = {"role": "system", "content": _PROBE}
        asked, answered = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}
        try:
            return _PROBE in self.write([system, asked, answered])
        except RowError:
            return False

    @cached_property
    def has_tools(self) -> bool:
        """Whether definitions of tools are shown to the model."""
        function = {"name": _PROBE, "description": "b", "parameters": {"type": "object", "properties": {}}}
        try:
            return _PROBE in self.write(
                [{"role": "user", "content": "a"}], [{"type": "function", "function": function}]
            )
        except RowError:
            return False

    def _write(
        self, messages: list[Message], tools: list[dict[str, Any]] | None, *, ask: bool, track: bool
    ) -> tuple[str, list[Span]]:
        from transformers.utils.chat_template_utils import render_jinja_template  # noqa: PLC0415

        try:
            texts, spans = render_jinja_template(
                conversations=[messages],
                tools=tools,
                chat_template=self.text,
                return_assistant_tokens_mask=track,
                add_generation_prompt=ask,
                **self._tokenizer.special_tokens_map,
            )
        except Exception as error:
            # A template is a program of its author: it raises what it likes.
            reason = str(error).strip().rstrip(".") or type(error).__name__
            message = f"The model's chat template refuses the conversation: {reason}."
            raise RowError(FindingCode.TEMPLATE_REFUSED, "", message) from error
        return texts[0], [tuple(span) for span in spans[0]] if track else []

    def _check_bos(self) -> None:
        bos = self._tokenizer.bos_token
        if bos is None:
            return
        try:
            text = self.write([{"role": "user", "content": "a"}], ask=True)
        except RowError as error:
            msg = f"The chat template cannot write the simplest conversation: {error.message}"
            raise WrongInputError("TemplateInvalid", msg, "model.path") from error
        if text.count(bos) > 1:
            msg = f"The chat template writes {bos} {text.count(bos)} times; a conversation has it once. Correct the template."
            raise WrongInputError("TemplateInvalid", msg, "model.path")


def chat_template(tokenizer: PreTrainedTokenizerBase) -> ChatTemplate | None:
    """Return the tokenizer's chat template, if it brings one."""
    return ChatTemplate(tokenizer) if tokenizer.chat_template else None
