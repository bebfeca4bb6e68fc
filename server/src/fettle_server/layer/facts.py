"""What is known of one request: the notes that an app leaves and the layer around it reads.

The layer puts a RequestFacts into the scope before the app is called; the app finds it with `facts_of(scope)`
(which makes one where no layer stands around the app) and tells what happens:

    facts = facts_of(scope)
    facts.revision = "rev-b"                   # as soon as it is found in the list of what is loaded
    facts.stream, facts.wants_json = True, False
    facts.tokens_in = len(prompt)
    async for chunk in engine.generate(…, priority=facts.priority):
        facts.said(chunk.text, tokens=len(chunk.tokens), choice=index)
    facts.finished("stop", choice=index)
    facts.response_id = "chatcmpl-…"           # before the first byte is sent; not to be guessed

An answer that breaks off after its head was sent is told with `facts.failed = True`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from fettle_server.layer.asgi import header

if TYPE_CHECKING:
    from collections.abc import Callable

    from fettle_server.layer.asgi import Scope

__all__ = ["MAX_TEXT", "Choice", "RequestFacts", "facts_of"]

MAX_TEXT: Final = 65_536
"""Characters of an answer that are kept for the signals; what comes after them is counted, not read."""

_KEY: Final = "fettle"
_ROLES: Final = frozenset({"stable", "canary", "variant", "shadow"})
_ROUTES: Final = frozenset({"weighted", "pinned", "mirror"})


@dataclass(slots=True)
class Choice:
    """One of the `n` answers to a request."""

    parts: list[str] = field(default_factory=list)
    length: int = 0
    last_token_at: float | None = None
    finish: str = ""

    @property
    def text(self) -> str:
        """The answer, or its first MAX_TEXT characters."""
        return "".join(self.parts)

    @property
    def clipped(self) -> bool:
        """Whether more was said than is kept."""
        return self.length > MAX_TEXT


@dataclass(slots=True)
class RequestFacts:
    """One request and what became of it. Times are seconds of `clock`."""

    role: str = ""
    """stable, canary, variant or shadow, where the router says so."""
    route: str = "direct"
    """weighted or pinned by the router, mirror for a copy, direct for whoever asks the pod itself."""
    client: str = ""
    """Whose key the request came with, where the router says so."""
    revision: str = ""
    """The revision that answers; empty until the app has found it."""
    stream: bool = False
    wants_json: bool = False
    """Whether the client asked for JSON (response_format)."""
    response_id: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    failed: bool = False
    """The answer broke off after its head had been sent."""
    first_token_at: float | None = None
    gaps: list[float] = field(default_factory=list)
    """Seconds between tokens, one per token after the first of each choice."""
    choices: dict[int, Choice] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic

    @property
    def priority(self) -> Literal["user", "shadow"]:
        """How the engine has to treat the request."""
        return "shadow" if self.route == "mirror" else "user"

    def said(self, text: str, *, tokens: int = 1, choice: int = 0) -> None:
        """Note that a piece of an answer was generated now."""
        now = self.clock()
        kept = self.choices.get(choice)
        if kept is None:
            kept = self.choices[choice] = Choice()
        if kept.length < MAX_TEXT:
            kept.parts.append(text[: MAX_TEXT - kept.length])
        kept.length += len(text)
        if tokens <= 0:
            return
        self.tokens_out += tokens
        if self.first_token_at is None:
            self.first_token_at = now
        if kept.last_token_at is not None:
            self.gaps.extend([(now - kept.last_token_at) / tokens] * tokens)
        kept.last_token_at = now

    def finished(self, reason: str, *, choice: int = 0) -> None:
        """Note why an answer ended, in OpenAI's words."""
        self.choices.setdefault(choice, Choice()).finish = reason


def facts_of(scope: Scope) -> RequestFacts:
    """Return the facts of the request, begun from its headers where nobody has begun them yet."""
    state = scope.setdefault("state", {})
    facts: RequestFacts | None = state.get(_KEY)
    if facts is None:
        role, route = header(scope, b"x-fettle-role"), header(scope, b"x-fettle-route")
        facts = RequestFacts(
            role=role if role in _ROLES else "",
            route=route if route in _ROUTES else "direct",
            client=header(scope, b"x-fettle-client"),
        )
        state[_KEY] = facts
    return facts
