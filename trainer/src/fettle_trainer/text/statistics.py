"""How long rows are: quantiles, a histogram, and the length that `auto` stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from fettle_trainer.config.dataset_report import LengthBin

if TYPE_CHECKING:
    from collections.abc import Iterator

_MULTIPLE: Final = 8
_SHORTEST_BIN: Final = 16


def quantile(lengths: np.ndarray, share: float) -> int:
    """Return a length that really occurs and that no smaller share of the rows keeps within."""
    return int(np.quantile(lengths, share, method="higher")) if len(lengths) else 0


def length_histogram(lengths: np.ndarray) -> tuple[LengthBin, ...]:
    """Count rows in bins whose bounds double."""
    if not len(lengths):
        return ()
    bounds = list(_bounds(int(lengths.max())))
    counts, _ = np.histogram(lengths, bins=[-1, *(bound + 0.5 for bound in bounds)])
    return tuple(LengthBin(up_to=bound, rows=int(count)) for bound, count in zip(bounds, counts, strict=True))


def automatic_length(lengths: np.ndarray, positions: int | None) -> tuple[int, str]:
    """Choose the maximum length for rows of these lengths and a model of so many positions, and say why.

    It is what 99 of 100 rows keep within; all of them, if the longest is not twice as long: then nothing is lost.
    """
    longest, p99 = int(lengths.max(initial=0)), quantile(lengths, 0.99)
    chosen, reason = (
        (longest, "the longest row") if longest <= 2 * p99 else (p99, "99 % of the rows are no longer")
    )
    chosen = max(_MULTIPLE, -(-chosen // _MULTIPLE) * _MULTIPLE)
    if positions is not None and chosen > positions:
        return positions, "the model has no more positions"
    return chosen, reason


def _bounds(longest: int) -> Iterator[int]:
    bound = _SHORTEST_BIN
    while bound < longest:
        yield bound
        bound *= 2
    yield bound
