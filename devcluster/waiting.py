"""Waiting for something observable, with a deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Callable


def wait_until(
    condition: Callable[[], bool],
    *,
    timeout_s: float,
    otherwise: Callable[[], str],
    every_s: float = 0.05,
) -> None:
    """Wait for a condition; when the time is over, raise what `otherwise` says about it."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            raise DevclusterError(otherwise())
        time.sleep(every_s)
