"""Which of the training rows are held back for validation.

A row is held back because of its own content: its hash lies below a bound. Where rows have labels, each label has a
bound of its own, set so that exactly its share is held back.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fettle_trainer.config.dataset import DatasetConfig

AUTO_SHARE: Final = 0.05
_AUTO_MOST: Final = 1000
_AUTO_LEAST_ROWS: Final = 20
"""Of fewer rows none is held back unless asked for: each of them teaches more than it measures."""

MOST_LABELS: Final = 1000
"""Labels beyond these are told apart no longer and split as one."""
NO_LABEL: Final = 0

_ALL: Final = 2**64
_BINS: Final = 256
_BIN_SHIFT: Final = 56


@dataclass(frozen=True)
class Split:
    """The bounds: a row is held back when the number its hash begins with lies below."""

    bound: int
    by_label: Mapping[int, int] = field(default_factory=dict)

    def holds(self, number: int, label: int) -> bool:
        """Say whether a row belongs to validation."""
        return number < self.bound_of(label)

    def bound_of(self, label: int) -> int:
        """Return the bound of one label."""
        return self.by_label.get(label, self.bound)


def validation_share(dataset: DatasetConfig, rows: int) -> float:
    """Return the share, for a dataset of so many usable training rows."""
    if dataset.validation:
        return 0.0
    if dataset.validation_split is not None:
        return float(dataset.validation_split.removesuffix("%")) / 100
    return min(AUTO_SHARE, _AUTO_MOST / rows) if rows >= _AUTO_LEAST_ROWS else 0.0


def split_by_hash(share: float) -> Split:
    """Hold back about a share of all rows; what is held back stays so when the data grows."""
    return Split(int(share * _ALL))


def split_by_label(share: float, rows: Callable[[], Iterable[tuple[int, int]]]) -> Split:
    """Hold back exactly a share of each label's rows: those with the smallest hashes.

    `rows` is gone through twice; it yields the number that a row's hash begins with, and its label. What is kept in
    memory are the counts of hashes in 256 ranges for each label, then the hashes of one range of each.
    """
    counts: dict[int, array[int]] = {}
    for number, label in rows():
        bins = counts.get(label)
        if bins is None:
            bins = counts[label] = array("Q", bytes(8 * _BINS))
        bins[number >> _BIN_SHIFT] += 1
    wanted = {label: int(share * sum(bins) + 0.5) for label, bins in counts.items()}
    edges = {label: _edge(counts[label], wanted[label]) for label in counts if wanted[label]}
    near: dict[int, list[int]] = {label: [] for label in edges}
    for number, label in rows():
        edge = edges.get(label)
        if edge is not None and number >> _BIN_SHIFT == edge[0]:
            near[label].append(number)
    bounds = {label: sorted(near[label])[rest - 1] + 1 for label, (_, rest) in edges.items()}
    return Split(0, bounds)


def _edge(bins: array[int], wanted: int) -> tuple[int, int]:
    """Return the range in which the last wanted hash lies, and the how manieth it is there."""
    rest = wanted
    for number, count in enumerate(bins):
        if rest <= count:
            return number, rest
        rest -= count
    msg = "more rows are wanted than there are"
    raise ValueError(msg)
