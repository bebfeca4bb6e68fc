"""Thumbs up or down for an answer: which revision gave it is remembered for a while, the rest is counting."""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FeedbackBook", "Rated", "Rating", "Subject"]

Rating = Literal["up", "down"]

_MOST_CHANGES: Final = 4
"""How often one answer's rating counts; who keeps changing their mind must not outvote the others."""


class Subject(NamedTuple):
    """What is rated, by the labels of the metrics."""

    revision: str
    role: str
    route: str


@dataclass(frozen=True, slots=True)
class Rated:
    """A rating that was taken."""

    subject: Subject
    counts: bool
    """False for the same rating again, and after too many changes."""


@dataclass(slots=True)
class _Entry:
    subject: Subject
    expires_at: float
    rating: Rating | None = None
    changes: int = 0


class FeedbackBook:
    """The answers that can be rated: the newest ones, for some time.

    Whoever knows the id of an answer may rate it, so ids must not be guessable; they are made of 16 random bytes.
    """

    def __init__(
        self,
        *,
        capacity: int = 100_000,
        lifetime_s: float = 86_400,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._capacity = capacity
        self._lifetime_s = lifetime_s
        self._clock = clock
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def remember(self, response_id: str, subject: Subject) -> None:
        """Note that an answer was given; an id that is known stays as it is."""
        if not response_id or response_id in self._entries:
            return
        now = self._clock()
        self._entries[response_id] = _Entry(subject, now + self._lifetime_s)
        # The oldest stand first and all live equally long: what has expired is found without a search.
        while len(self._entries) > self._capacity or next(iter(self._entries.values())).expires_at <= now:
            self._entries.popitem(last=False)

    def rate(self, response_id: str, rating: Rating) -> Rated | None:
        """Take a rating; None when the answer is unknown or was given too long ago."""
        entry = self._entries.get(response_id)
        if entry is None:
            return None
        if entry.expires_at <= self._clock():
            del self._entries[response_id]
            return None
        if entry.rating == rating or entry.changes >= _MOST_CHANGES:
            return Rated(entry.subject, counts=False)
        entry.rating = rating
        entry.changes += 1
        return Rated(entry.subject, counts=True)
