"""Which clients have used up their tokens, and for how long (pure).

The model servers tell the tokens of each client in the last minute, by age. All routers read all pods, so that a limit
holds for a client whichever router and whichever pod it meets. What is known of a pod that cannot be asked now grows
older until it is forgotten.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fettle_router.table import Table

__all__ = ["WINDOW_S", "Reading", "Used", "blocked_until", "token_limits"]

WINDOW_S: Final = 60

Used = Mapping[str, Sequence[tuple[int, int]]]
"""Tokens by client: pairs of age in seconds and number."""


@dataclass(frozen=True)
class Reading:
    """What one pod has told."""

    at_s: float
    used: Used


def token_limits(table: Table) -> dict[str, int]:
    """Return the tokens per minute of each client that has such a limit."""
    return {
        name: limits.tokens_per_minute
        for name, limits in table.limits_by_caller.items()
        if limits.tokens_per_minute is not None
    }


def blocked_until(
    limits: Mapping[str, int], readings: Iterable[Reading], former: Mapping[str, int], now_s: float
) -> dict[str, int]:
    """Return the clients above their limit, each with the second of the clock at which it is below again.

    A second is what rounding makes of the same moment twice, so a former value that is that near stays.
    """
    spent: dict[str, list[tuple[float, int]]] = {}
    for reading in readings:
        for client in reading.used.keys() & limits.keys():
            older = now_s - reading.at_s
            spent.setdefault(client, []).extend((age + older, count) for age, count in reading.used[client])
    until = {}
    for client, tokens in spent.items():
        wait = _wait(limits[client], tokens)
        if wait > 0:
            ends = int(now_s + wait) + 1
            until[client] = former[client] if abs(former.get(client, 0) - ends) <= 1 else ends
    return until


def _wait(limit: int, tokens: Iterable[tuple[float, int]]) -> float:
    """Return the seconds until so much is older than the window that the rest is below the limit."""
    counted = sorted((age, count) for age, count in tokens if age < WINDOW_S)
    total = sum(count for _, count in counted)
    while total >= limit and counted:
        age, count = counted.pop()
        total -= count
        if total < limit:
            return WINDOW_S - age
    return 0.0
