"""`/v1/chat/completions`: the request and the reply."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, model_validator

from fettle_server.api.fields import Generation
from fettle_server.api.logprobs import chat_logprobs
from fettle_server.api.messages import Conversation, Tool
from fettle_server.api.reply import Answer, Head, usage
from fettle_server.engine.types import Chunk, Sampling

__all__ = ["HARMLESS", "ChatReply", "ChatRequest"]

HARMLESS: Final[Mapping[str, Sequence[Any]]] = MappingProxyType(
    {
        "audio": (None,),
        "function_call": (None, "none"),
        "functions": (None, []),
        "logit_bias": (None, {}),
        "metadata": (None, {}),
        "modalities": (None, ["text"]),
        "moderation": (None,),
        "parallel_tool_calls": (None, True),
        "prediction": (None,),
        "prompt_cache_options": (None,),
        "prompt_cache_retention": (None,),
        "reasoning_effort": (None,),
        "response_format": (None, {"type": "text"}),
        "service_tier": (None, "auto", "default"),
        "store": (None, False),
        "verbosity": (None,),
        "web_search_options": (None,),
    }
)
"""What OpenAI has and this server has not, each with the values that ask for nothing."""

_TO_THE_END: Final = 2**31 - 1
"""Without a limit an answer may fill the context."""
_MOST_TOKENS: Final = 2**31 - 1


class ChatRequest(Generation):
    """A conversation that is to be continued."""

    messages: Conversation
    max_tokens: Annotated[int, Field(ge=1, le=_MOST_TOKENS)] | None = None
    """Older name of max_completion_tokens."""
    max_completion_tokens: Annotated[int, Field(ge=1, le=_MOST_TOKENS)] | None = None
    """Where the answer is cut off; left out, it may fill the context."""
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    tools: Annotated[list[Tool], Field(max_length=128)] | None = None
    """Shown to the model as its chat template writes them. What it answers is text; calls are not parsed."""
    tool_choice: Literal["none", "auto"] | None = None
    """none hides the tools from the model."""
    prompt_cache_key: Annotated[str, Field(max_length=512)] | None = None
    """Accepted for OpenAI's clients; it changes nothing."""
    safety_identifier: Annotated[str, Field(max_length=512)] | None = None
    """Accepted for OpenAI's clients; it changes nothing."""

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise ValueError("Give 'max_completion_tokens' or 'max_tokens', not both.")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("'top_logprobs' is only allowed when 'logprobs' is true.")
        if self.tool_choice is not None and not self.tools:
            raise ValueError("'tool_choice' is only allowed when 'tools' are given.")
        return self

    @property
    def shown_tools(self) -> list[Tool] | None:
        """The tools that the model gets to see."""
        return None if self.tool_choice == "none" else self.tools

    def sampling(self, choice: int) -> Sampling:
        """Return how the nth answer is generated."""
        return Sampling(
            max_tokens=self.max_completion_tokens or self.max_tokens or _TO_THE_END,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
            **self.sampling_of(choice),
        )


class ChatReply:
    """A chat completion, streamed or whole."""

    def __init__(self, head: Head, request: ChatRequest) -> None:
        self._head = head
        self._logprobs = bool(request.logprobs)
        self._usage = request.include_usage
        self._begun: set[int] = set()

    def pieces(self, index: int, chunk: Chunk) -> list[dict[str, Any]]:
        """Return the deltas for a chunk: who speaks, what is said, why it ends."""
        pieces = []
        if index not in self._begun:
            self._begun.add(index)
            pieces.append(self._piece(index, {"role": "assistant", "content": ""}))
        said = chat_logprobs(chunk.tokens) if self._logprobs and chunk.tokens else None
        if chunk.text or said:
            pieces.append(self._piece(index, {"content": chunk.text}, logprobs=said))
        if chunk.finish:
            pieces.append(self._piece(index, {}, finish=chunk.finish))
        return pieces

    def ending(self, tokens_in: int, tokens_out: int) -> dict[str, Any] | None:
        """Return the chunk that tells the usage, if it was asked for."""
        if not self._usage:
            return None
        head = self._head.fields("chat.completion.chunk")
        return {**head, "choices": [], "usage": usage(tokens_in, tokens_out)}

    def whole(self, answers: Sequence[Answer], tokens_in: int, tokens_out: int) -> dict[str, Any]:
        """Return the completion."""
        choices = [
            {
                "index": index,
                "message": {"role": "assistant", "content": answer.text, "refusal": None},
                "logprobs": chat_logprobs(answer.tokens) if self._logprobs else None,
                "finish_reason": answer.finish,
            }
            for index, answer in enumerate(answers)
        ]
        head = self._head.fields("chat.completion")
        return {**head, "choices": choices, "usage": usage(tokens_in, tokens_out)}

    def _piece(
        self,
        index: int,
        delta: dict[str, Any],
        *,
        logprobs: dict[str, Any] | None = None,
        finish: str | None = None,
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        document = {**self._head.fields("chat.completion.chunk"), "choices": [choice]}
        return {**document, "usage": None} if self._usage else document
