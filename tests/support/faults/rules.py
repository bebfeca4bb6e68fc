"""What the fault proxy can do to a request, and to which requests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = ["Action", "Answer", "Delay", "Kill", "Request", "Reset", "Rule", "is_write", "writes_of"]

_READS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass
class Request:
    """One request that came through the proxy."""

    number: int
    method: str
    path: str
    query: Mapping[str, str]
    body: bytes
    code: int | None = None
    """What the client was told; None if it was told nothing."""
    applied: bool = False
    """The server was asked, so the write may have taken place."""

    @property
    def is_watch(self) -> bool:
        """Tell whether it is the beginning of a stream."""
        return self.query.get("watch", "") in {"1", "true"}

    def __str__(self) -> str:
        return f"#{self.number} {self.method} {self.path} -> {self.code}"


@dataclass(frozen=True)
class Answer:
    """Reply with this code instead of asking the server."""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    reason: str = "InjectedFault"


@dataclass(frozen=True)
class Reset:
    """Drop the connection, before the server is asked or after it has answered."""

    when: Literal["before", "after"]


@dataclass(frozen=True)
class Delay:
    """Hold the reply back."""

    seconds: float


@dataclass(frozen=True)
class Kill:
    """End the operator: before the server is asked, after it applied the write, or after the reply was sent."""

    when: Literal["before", "applied", "replied"]
    kill: Callable[[], None]


Action = Answer | Reset | Delay | Kill


@dataclass
class Rule:
    """An action for the requests that match, so many times (None: always)."""

    matches: Callable[[Request], bool]
    action: Action
    times: int | None = None

    def applies(self, request: Request) -> bool:
        """Tell whether the rule acts on this request, and count it."""
        if self.times == 0 or not self.matches(request):
            return False
        if self.times is not None:
            self.times -= 1
        return True


def is_write(request: Request) -> bool:
    """Tell whether the request changes something."""
    return request.method not in _READS


def writes_of(plural: str) -> Callable[[Request], bool]:
    """Return a match for writes to one kind; `adapters/status` stands for the status alone."""
    kind, _, subresource = plural.partition("/")

    def matches(request: Request) -> bool:
        parts = request.path.strip("/").split("/")
        return is_write(request) and kind in parts and (parts[-1] == subresource if subresource else True)

    return matches
