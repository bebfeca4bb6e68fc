"""The parameters that chat and plain completions share."""

from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator

from fettle_server.api.validation import OnlyFalse, Parameters

__all__ = [
    "MAX_CHOICES",
    "Generation",
    "Stop",
    "StreamOptions",
]

MAX_CHOICES: Final = 16
"""Answers to one request, over all of its prompts."""

_MOST_STOPS: Final = 4
_LONGEST_STOP: Final = 256
_INT64: Final = 2**63


def _stops(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


_STOP_SCHEMA: Final[dict[str, Any]] = {
    "anyOf": [
        {"type": "string", "minLength": 1, "maxLength": _LONGEST_STOP},
        {
            "type": "array",
            "items": {"type": "string", "minLength": 1, "maxLength": _LONGEST_STOP},
            "maxItems": _MOST_STOPS,
        },
    ]
}

Stop = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=_LONGEST_STOP)]],
    Field(max_length=_MOST_STOPS),
    BeforeValidator(_stops),
    WithJsonSchema(_STOP_SCHEMA),
]
"""A string or up to four; the answer ends before the first of them."""


class StreamOptions(Parameters):
    """What a stream holds beside the answer."""

    include_usage: bool | None = None
    """Whether a last chunk tells the tokens that were used."""
    include_obfuscation: OnlyFalse | None = None
    """Chunks are not padded to one length."""


class Generation(Parameters):
    """How an answer is generated. What is left out, or null, has OpenAI's default."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    """The model's name, a revision, or name@revision."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """0 takes the most likely token, always. Default 1."""
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-_INT64, lt=_INT64)] | None = None
    """The same seed gives the same answer, whatever else the server does."""
    stop: Stop | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    user: Annotated[str, Field(max_length=512)] | None = None
    """Accepted for OpenAI's clients; it changes nothing."""

    @model_validator(mode="after")
    def _options_have_a_stream(self) -> Self:
        if self.stream_options is not None and not self.stream:
            raise ValueError("'stream_options' is only allowed when 'stream' is true.")
        return self

    @property
    def include_usage(self) -> bool:
        """Whether the stream ends with the usage."""
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def choices(self) -> int:
        """Answers to each prompt."""
        return self.n or 1

    def sampling_of(self, choice: int) -> dict[str, Any]:
        """Return the fields of Sampling that chat and plain completions have in common, for the nth answer."""
        return {
            "temperature": 1.0 if self.temperature is None else self.temperature,
            "top_p": 1.0 if self.top_p is None else self.top_p,
            # Answers to one prompt with one seed would all be the same.
            "seed": None if self.seed is None else self.seed + choice,
            "stop": tuple(self.stop or ()),
            "presence_penalty": self.presence_penalty or 0.0,
            "frequency_penalty": self.frequency_penalty or 0.0,
        }
