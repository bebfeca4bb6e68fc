"""What becomes of rows that are longer than the maximum length."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

Overlong = Literal["auto", "drop", "truncate", "fail"]


@dataclass(frozen=True)
class Kept:
    """The rows that remain, as numbers into the table they came from."""

    rows: np.ndarray
    lengths: np.ndarray
    trained: np.ndarray
    """Trained tokens of each, within its length."""
    overlong: np.ndarray
    """The rows that were longer, dropped or truncated."""
    untrained: np.ndarray
    """The rows left out because nothing of them is trained."""


def keep(  # noqa: PLR0913 - the columns of a table, and what is done to them
    rows: np.ndarray,
    lengths: np.ndarray,
    trained: np.ndarray,
    *,
    limit: int,
    policy: Overlong,
    trained_within: Callable[[int, int], int],
) -> Kept:
    """Apply the policy to rows; `trained_within(row, length)` counts the trained tokens in a row's beginning."""
    long = lengths > limit
    if policy == "truncate":
        remaining = np.ones(len(rows), dtype=bool)
        cut = np.minimum(lengths, limit)
        trained = trained.copy()
        for place in np.flatnonzero(long):
            trained[place] = trained_within(int(rows[place]), limit)
    else:
        remaining, cut = ~long, lengths
    useful = remaining & (trained > 0)
    return Kept(
        rows=rows[useful],
        lengths=cut[useful].astype(np.int32),
        trained=trained[useful].astype(np.int32),
        overlong=rows[long],
        untrained=rows[remaining & (trained == 0)],
    )
