"""When the next attempt at something is due. Pure."""

from datetime import datetime, timedelta

from fettle_operator.engine.backoff import doubled
from fettle_operator.settings import Backoff

__all__ = ["NOW_S", "due_at"]

NOW_S = 0.05
"""From one pass to the next where the next thing to do is known; what the first wrote down is then fixed."""


def due_at(ended_at: datetime, number: int, backoff: Backoff) -> datetime:
    """Return when the attempt after this one may begin."""
    return ended_at + timedelta(seconds=doubled(backoff, max(0, number - 1)))
