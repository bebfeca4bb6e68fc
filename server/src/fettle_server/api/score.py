"""`/score`: the chat payload of Azure ML's online endpoints."""

from collections.abc import Sequence
from typing import Annotated, Any, Final, Self

from pydantic import Field, model_validator

from fettle_server.api.fields import Stop
from fettle_server.api.messages import Conversation
from fettle_server.api.reply import Answer
from fettle_server.api.validation import OnlyFalse, Parameters
from fettle_server.engine.types import Sampling

__all__ = ["ScoreReply", "ScoreRequest"]

_MOST_TOKENS: Final = 2**31 - 1


class ScoreParameters(Parameters):
    """How the answer is generated, in the words of transformers."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """0 takes the most likely token, always. Default 1."""
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    do_sample: bool | None = None
    """false takes the most likely token, always. Default true."""
    max_new_tokens: Annotated[int, Field(ge=1, le=_MOST_TOKENS)] | None = None
    """Where the answer is cut off; left out, it may fill the context."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: Stop | None = None
    return_full_text: OnlyFalse | None = None
    """The answer alone is returned."""

    @model_validator(mode="after")
    def _greedy_or_sampled(self) -> Self:
        if self.do_sample is False and (self.temperature or self.top_p is not None):
            raise ValueError("'temperature' and 'top_p' have no meaning when 'do_sample' is false.")
        return self


class ScoreInput(Parameters):
    """A conversation and how it is to be continued."""

    input_string: Conversation
    parameters: ScoreParameters | None = None


class ScoreRequest(Parameters):
    """The whole payload."""

    input_data: ScoreInput

    def sampling(self) -> Sampling:
        """Return how the answer is generated."""
        given = self.input_data.parameters or ScoreParameters()
        temperature = 1.0 if given.temperature is None else given.temperature
        return Sampling(
            max_tokens=given.max_new_tokens or _MOST_TOKENS,
            temperature=0.0 if given.do_sample is False else temperature,
            top_p=1.0 if given.top_p is None else given.top_p,
            seed=given.seed,
            stop=tuple(given.stop or ()),
        )


class ScoreReply:
    """The answer's text; this endpoint does not stream."""

    def whole(self, answers: Sequence[Answer], _tokens_in: int, _tokens_out: int) -> dict[str, Any]:
        """Return the answer."""
        return {"output": answers[0].text}
