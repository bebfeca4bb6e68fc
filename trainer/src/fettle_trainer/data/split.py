"""Which share of the training rows is held back for validation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fettle_trainer.config.dataset import DatasetConfig

_AUTO_SHARE: Final = 0.05
_AUTO_MOST: Final = 1000
_AUTO_LEAST_ROWS: Final = 20
"""Of fewer rows none is held back unless asked for: each of them teaches more than it measures."""


def validation_share(dataset: DatasetConfig, rows: int) -> float:
    """Return the share, for a dataset of so many usable training rows."""
    if dataset.validation:
        return 0.0
    if dataset.validation_split is not None:
        return float(dataset.validation_split.removesuffix("%")) / 100
    return min(_AUTO_SHARE, _AUTO_MOST / rows) if rows >= _AUTO_LEAST_ROWS else 0.0
