"""How a revision's texts become tokens: its tokenizer, its chat template and the tokens that end its answers."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, Final

from transformers import AutoTokenizer

from fettle_server.engine.template_time import at_most
from fettle_server.engine.token_bytes import TokenBytes
from fettle_server.engine.types import BaseRefusedError, WrongMessagesError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

_PROBE: Final = "fettleprobe"
_TEMPLATE_S: Final = 2.0
"""Long for a template, which needs milliseconds, and short for the others, whose prompts wait meanwhile."""
_MOST_CHARACTERS: Final = 8 * 2**20
"""Several times a whole body: what a template may add to it."""


class TextSide:
    """The words of one revision, exactly as its training wrote them."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop_ids: Iterable[int]) -> None:
        self._tokenizer = tokenizer
        self._template = _template(tokenizer)
        self.tokens = TokenBytes(tokenizer)
        self.template_digest = None if self._template is None else _digest(self._template)
        """`sha256:…` of the chat template's bytes; None where there is no template."""
        # Gemma 2 refuses a system message, Mistral leaves it out: training put its words before the first user turn.
        self._folds_system = self._template is not None and not self._shows_system()
        self.stop_ids = frozenset(stop_ids) | self._own_stops()

    def chat(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None
    ) -> list[int]:
        """Return the prompt that asks for the next answer; raise WrongMessagesError where the template refuses it."""
        if self._template is None:
            raise WrongMessagesError(
                "This model has no chat template, so it takes no messages. Send a prompt to /v1/completions."
            )
        if not messages:
            raise WrongMessagesError("There are no messages. Send at least one.")
        written = [_message(message) for message in messages]
        text = self._write(self._folded(written), [dict(tool) for tool in tools or ()] or None, ask=True)
        # The template writes BOS itself, where the model wants one.
        tokens: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return tokens

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a plain text, with what the tokenizer puts before every text."""
        tokens: list[int] = self._tokenizer(text)["input_ids"]
        return tokens

    def _folded(self, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if not self._folds_system or len(messages) < 2 or messages[0]["role"] != "system":
            return messages
        system, first, *rest = messages
        return [{**first, "content": f"{system['content']}\n\n{first['content']}"}, *rest]

    def _write(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None, *, ask: bool = False
    ) -> str:
        try:
            with at_most(_TEMPLATE_S):
                text: str = self._tokenizer.apply_chat_template(
                    messages, tools=tools, add_generation_prompt=ask, tokenize=False
                )
        except Exception as error:
            # A template is a program of its author: it raises what it likes.
            reason = str(error).strip().rstrip(".") or type(error).__name__
            raise WrongMessagesError(f"The model's chat template refuses the messages: {reason}.") from error
        if len(text) > _MOST_CHARACTERS:
            raise WrongMessagesError(
                f"The model's chat template makes {len(text)} characters of the messages, more than a prompt may have "
                f"({_MOST_CHARACTERS})."
            )
        return text

    def _shows_system(self) -> bool:
        system = {"role": "system", "content": _PROBE}
        try:
            return _PROBE in self._write([system, *_exchange("b")])
        except WrongMessagesError:
            return False

    def _own_stops(self) -> frozenset[int]:
        """Return the tokenizer's EOS, and the token that the template puts behind an answer."""
        stops = {self._tokenizer.eos_token_id, self._closing_token()}
        return frozenset(token for token in stops if token is not None)

    def _closing_token(self) -> int | None:
        if self._template is None:
            return None
        names = {str(added.content): token for token, added in self._tokenizer.added_tokens_decoder.items()}
        try:
            _, _, after = self._write(_exchange(_PROBE)).partition(_PROBE)
        except WrongMessagesError:
            return None
        alternatives = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
        found = re.match(rf"\s*({alternatives})", after) if alternatives else None
        return names[found.group(1)] if found else None


def load_text_side(folder: Path, stop_ids: Iterable[int]) -> TextSide:
    """Load the tokenizer of a folder, with its template; raise BaseRefusedError if there is none to load."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        # The Rust parser raises bare Exceptions, transformers nearly every kind there is.
        reason = str(error).strip().split("\n")[0][:300]
        raise BaseRefusedError(f"The tokenizer in {folder} cannot be loaded: {reason}") from error
    if not tokenizer.is_fast:
        raise BaseRefusedError(f"The tokenizer in {folder} has no fast form (tokenizer.json). Convert it.")
    # A prompt that is too long is refused with a sentence, never cut.
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    template = folder / "chat_template.jinja"
    if template.is_file():
        # Byte for byte: reading as text would turn line ends into others than training saw.
        tokenizer.chat_template = template.read_bytes().decode()
    return TextSide(tokenizer, stop_ids)


def _template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    if not tokenizer.chat_template:
        return None
    try:
        text: str = tokenizer.get_chat_template()
    except ValueError as error:
        raise BaseRefusedError(f"The tokenizer brings no default chat template: {error}") from error
    return text


def _digest(template: str) -> str:
    return f"sha256:{hashlib.sha256(template.encode()).hexdigest()}"


def _exchange(answer: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "a"}, {"role": "assistant", "content": answer}]


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Bring a message into the form that templates read, as training did."""
    written = {**message, "content": message.get("content") or ""}
    if message.get("tool_calls"):
        written["tool_calls"] = [_call(call) for call in message["tool_calls"]]
    return written


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tool call whose arguments are an object: clients send JSON text, which templates would quote again."""
    function = dict(call["function"])
    arguments = function.get("arguments", {})
    if isinstance(arguments, str):
        try:
            parsed = json.loads(arguments)
        except (ValueError, RecursionError):
            parsed = None
        function["arguments"] = parsed if isinstance(parsed, dict) else arguments
    return {"type": "function", **call, "function": function}
