"""`/v1/completions`: the request and the reply."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from fettle_server.api.fields import MAX_CHOICES, Generation
from fettle_server.api.logprobs import completion_logprobs
from fettle_server.api.reply import Answer, Head, usage
from fettle_server.engine.types import Chunk, Sampling, Token

__all__ = ["HARMLESS", "CompletionReply", "CompletionRequest"]

HARMLESS: Final[Mapping[str, Sequence[Any]]] = MappingProxyType(
    {
        "echo": (None, False),
        "logit_bias": (None, {}),
        "suffix": (None, ""),
    }
)
"""What OpenAI has and this server has not, each with the values that ask for nothing."""

_DEFAULT_MAX_TOKENS: Final = 16
_MOST_TOKENS: Final = 2**31 - 1
_NOT_A_PROMPT: Final = "write a text, a list of token ids, or a list of up to 16 of either."


def _listed(value: Any) -> Any:
    """Return a list of prompts, whichever of OpenAI's four forms it is."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list) or not value:
        raise ValueError(_NOT_A_PROMPT)
    return [value] if _is_token(value[0]) else value


def _prompt(value: Any) -> Any:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(map(_is_token, value)):
        return value
    raise ValueError(_NOT_A_PROMPT)


def _is_token(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**31


_TOKENS: Final[dict[str, Any]] = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
    "minItems": 1,
}
_PROMPT_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "string"},
        _TOKENS,
        {
            "type": "array",
            "items": {"anyOf": [{"type": "string"}, _TOKENS]},
            "minItems": 1,
            "maxItems": MAX_CHOICES,
        },
    ]
}

Prompts = Annotated[
    list[Annotated[Any, BeforeValidator(_prompt)]],
    Field(max_length=MAX_CHOICES),
    BeforeValidator(_listed),
    WithJsonSchema(_PROMPT_SCHEMA),
]


class CompletionRequest(Generation):
    """A text that is to be continued."""

    prompt: Prompts
    """A text, its token ids, or several of either."""
    max_tokens: Annotated[int, Field(ge=1, le=_MOST_TOKENS)] | None = None
    """Default 16."""
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    """Must be n: more answers than are returned are not generated."""

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.best_of is not None and self.best_of != self.choices:
            raise ValueError("'best_of' must be 'n': answers that are not returned are not generated.")
        if len(self.prompt) * self.choices > MAX_CHOICES:
            raise ValueError(f"'n' times the number of prompts is above {MAX_CHOICES}.")
        return self

    def sampling(self, choice: int) -> Sampling:
        """Return how the nth answer is generated."""
        return Sampling(
            max_tokens=self.max_tokens or _DEFAULT_MAX_TOKENS,
            logprobs=self.logprobs,
            **self.sampling_of(choice),
        )


class CompletionReply:
    """A completion, streamed or whole."""

    def __init__(self, head: Head, request: CompletionRequest) -> None:
        self._head = head
        self._logprobs = request.logprobs is not None
        self._usage = request.include_usage
        self._offsets: dict[int, int] = defaultdict(int)

    def pieces(self, index: int, chunk: Chunk) -> list[dict[str, Any]]:
        """Return what a stream says for a chunk."""
        if not chunk.text and not chunk.finish and not (self._logprobs and chunk.tokens):
            return []
        choice = self._choice(index, chunk.text, chunk.tokens, chunk.finish)
        document = {**self._head.fields("text_completion"), "choices": [choice]}
        return [{**document, "usage": None} if self._usage else document]

    def ending(self, tokens_in: int, tokens_out: int) -> dict[str, Any] | None:
        """Return the chunk that tells the usage, if it was asked for."""
        if not self._usage:
            return None
        return {
            **self._head.fields("text_completion"),
            "choices": [],
            "usage": usage(tokens_in, tokens_out),
        }

    def whole(self, answers: Sequence[Answer], tokens_in: int, tokens_out: int) -> dict[str, Any]:
        """Return the completion."""
        choices = [
            self._choice(index, answer.text, answer.tokens, answer.finish)
            for index, answer in enumerate(answers)
        ]
        return {
            **self._head.fields("text_completion"),
            "choices": choices,
            "usage": usage(tokens_in, tokens_out),
        }

    def _choice(self, index: int, text: str, tokens: Sequence[Token], finish: str | None) -> dict[str, Any]:
        logprobs = None
        if self._logprobs:
            logprobs = completion_logprobs(tokens, self._offsets[index])
            self._offsets[index] += sum(len(token.text) for token in tokens)
        return {"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish}
