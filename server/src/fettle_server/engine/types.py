"""What the engine takes and gives: plain data, so that nobody who speaks to it needs the model stack."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

Priority = Literal["user", "shadow"]
"""Shadow work fills what users leave free, and is the first to be dropped."""

Finish = Literal["stop", "length"]
"""Ended by a stop token or a stop string, or by max_tokens or the end of the context."""

State = Literal["Loading", "Ready", "Refused", "Draining"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one answer is generated."""

    max_tokens: int
    temperature: float = 1.0
    """0 takes the most likely token, always."""
    top_p: float = 1.0
    seed: int | None = None
    """The same seed gives the same answer, whatever else is in the batch."""
    stop: tuple[str, ...] = ()
    """Strings that end the answer; they are no part of it."""
    logprobs: int | None = None
    """None: none; 0: of the chosen token; n: of the n most likely ones too."""
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0


class Alternative(NamedTuple):
    """A token that could have been chosen."""

    id: int
    text: str
    utf8: bytes
    logprob: float


class Token(NamedTuple):
    """A token of an answer; `utf8` holds its very bytes, which may be part of a character."""

    id: int
    text: str
    utf8: bytes
    logprob: float | None
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of an answer; its text never ends inside of a character or of what may become a stop string."""

    text: str
    tokens: tuple[Token, ...]
    finish: Finish | None


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """An adapter that is to be served."""

    revision: str
    digest: str
    """`sha256:…`: what the adapter is."""
    path: str
    """Its release folder, relative to the adapters' root."""


@dataclass(frozen=True, slots=True)
class AdapterState:
    """Where an adapter stands."""

    revision: str
    digest: str
    state: State
    reason: str = ""
    """One CamelCase word for machines; empty unless refused."""
    message: str = ""
    """What is wrong and what to do, for people."""
    in_flight: int = 0
    """Requests that are waiting or running."""


@dataclass(frozen=True, slots=True)
class Load:
    """How busy the engine is."""

    running: int
    waiting: int
    cache_share: float
    """Of the tokens that the cache may hold, how many it holds: 0 to 1."""
    max_running: int
    max_waiting: int
    running_by_revision: Mapping[str, int] = field(default_factory=dict)
    waiting_by_revision: Mapping[str, int] = field(default_factory=dict)


class EngineError(Exception):
    """A request that the engine does not take or cannot finish; its text is for the client."""


class QueueFullError(EngineError):
    """As many requests wait as may wait."""

    def __init__(self, retry_after_s: int) -> None:
        super().__init__(
            f"The server is busy: its queue is full. Try again in {retry_after_s} s, or send fewer requests at a time."
        )
        self.retry_after_s = retry_after_s


class UnknownRevisionError(EngineError):
    """Nobody has asked this server to serve the revision."""

    def __init__(self, revision: str) -> None:
        super().__init__(f"The revision {revision!r} is not served here.")
        self.revision = revision


class RevisionNotReadyError(EngineError):
    """The revision is known, but is not served at this moment."""

    def __init__(self, revision: str, state: str) -> None:
        super().__init__(f"The revision {revision!r} is not ready: {state}.")
        self.revision = revision
        self.state = state


class PromptTooLongError(EngineError):
    """The prompt leaves no room for an answer."""

    def __init__(self, tokens: int, limit: int) -> None:
        super().__init__(
            f"The prompt has {tokens} tokens; with at least one token of an answer at most {limit} fit into the "
            "model's context. Shorten the prompt."
        )
        self.tokens = tokens
        self.limit = limit


class ShuttingDownError(EngineError):
    """The server is about to stop."""

    def __init__(self) -> None:
        super().__init__("The server is shutting down. Send the request again; another one will take it.")


class DroppedError(EngineError):
    """Shadow work gave way to users' requests."""

    def __init__(self) -> None:
        super().__init__("The shadow request was dropped: the server is busy with users' requests.")


class BaseRefusedError(Exception):
    """The base model cannot be served; its text is for who starts the server."""


class GenerationFailedError(EngineError):
    """Generating the answer failed; other requests are not concerned."""

    def __init__(self) -> None:
        super().__init__(
            "Generating this answer failed; the server's log says why. Other requests are not concerned."
        )


class WrongMessagesError(EngineError):
    """The chat template refuses the messages."""
