"""Rows of tokens without a dataset behind them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fettle_trainer.train.collate import IGNORED


class TokenRow(NamedTuple):
    input_ids: np.ndarray
    labels: np.ndarray


def row(length: int, *, seed: int, trained_from: int | None = None, vocabulary: int = 300) -> TokenRow:
    """Return random tokens, of which the second half is trained unless said otherwise."""
    ids = np.random.default_rng(seed).integers(10, vocabulary, size=length).astype(np.int32)
    labels = ids.copy()
    labels[: length // 2 if trained_from is None else trained_from] = IGNORED
    return TokenRow(ids, labels)


class Table:
    """A table of such rows, as a prepared dataset is one."""

    def __init__(self, rows: list[TokenRow]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(row.input_ids) for row in self._rows], dtype=np.int32)

    def row(self, index: int) -> TokenRow:
        return self._rows[index]
