"""How long to wait after a pass that failed."""

import random

from fettle_operator.errors import FettleError, Unavailable
from fettle_operator.settings import Backoff

__all__ = ["doubled", "jittered", "pause_after"]

_JITTER = 0.2
_DOUBLINGS_MAX = 16
"""More would reach no longer pause, and in the end no number."""


def pause_after(error: FettleError | None, failures: int, backoff: Backoff, chance: random.Random) -> float:
    """Return the seconds until the next try: doubled with each failure in a row, never less than asked for."""
    wished = error.retry_after_s or 0.0 if isinstance(error, Unavailable) else 0.0
    return max(jittered(doubled(backoff, failures - 1), chance), wished)


def doubled(backoff: Backoff, times: int) -> float:
    """Return the first pause, doubled so many times, within the longest one."""
    return min(backoff.initial_seconds * 2.0 ** min(times, _DOUBLINGS_MAX), backoff.max_seconds)


def jittered(seconds: float, chance: random.Random) -> float:
    """Spread a pause by a fifth, so that objects which failed together do not come back together."""
    return seconds * (1 + _JITTER * (2 * chance.random() - 1))
