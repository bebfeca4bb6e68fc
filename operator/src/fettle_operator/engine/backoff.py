"""How long to wait after a pass that failed."""

import random

from fettle_operator.errors import FettleError, Unavailable
from fettle_operator.settings import Backoff

__all__ = ["jittered", "pause_after"]

_JITTER = 0.2


def pause_after(error: FettleError | None, failures: int, backoff: Backoff, chance: random.Random) -> float:
    """Return the seconds until the next try: doubled with each failure in a row, never less than asked for."""
    doubled = backoff.initial_seconds * 2 ** min(failures - 1, 16)
    wished = error.retry_after_s or 0.0 if isinstance(error, Unavailable) else 0.0
    return max(jittered(min(doubled, backoff.max_seconds), chance), wished)


def jittered(seconds: float, chance: random.Random) -> float:
    """Spread a pause by a fifth, so that objects which failed together do not come back together."""
    return seconds * (1 + _JITTER * (2 * chance.random() - 1))
