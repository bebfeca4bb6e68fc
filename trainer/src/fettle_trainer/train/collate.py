"""From rows to the tensors of a micro-batch.

`targets` are already shifted: `targets[i]` is what the model is to say after token i, or IGNORED. So nothing later
can train the first token of a row on the last of the one before it, however rows are laid side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from fettle_trainer.train.plan import EMPTY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fettle_trainer.text.prepared import TokenRow, TokenTable

IGNORED: Final = -100
_TENSOR_CORES: Final = 8
"""They like lengths that are multiples of it; a CPU would only compute more padding."""
_NOTHING: Final = 8
"""How long a row is that is padding all through."""


class Rows(torch.utils.data.Dataset):
    """The rows, or packs of them, that a plan's indexes stand for."""

    def __init__(
        self,
        table: TokenTable,
        packs: Sequence[Sequence[int]] | None = None,
        weights: np.ndarray | None = None,
    ) -> None:
        self._table = table
        self._packs = packs if packs is not None else range(len(table))
        self._weights = weights
        self.packed = packs is not None

    def __len__(self) -> int:
        return len(self._packs)

    @property
    def lengths(self) -> np.ndarray:
        """The tokens of each."""
        lengths = np.asarray(self._table.lengths)
        if not self.packed:
            return lengths
        return np.array([int(lengths[np.asarray(pack)].sum()) for pack in self._packs], dtype=np.int64)

    def __getitem__(self, index: int) -> list[tuple[TokenRow, float]]:
        if index == EMPTY:
            return []
        entry = self._packs[index]
        members = [entry] if isinstance(entry, int) else entry
        return [
            (self._table.row(row), 1.0 if self._weights is None else float(self._weights[row]))
            for row in members
        ]


class Collator:
    """Pads rows to the longest one, or lays packs end to end with positions that start anew at every row."""

    def __init__(self, pad_id: int, *, packed: bool) -> None:
        self._pad_id = pad_id
        self._packed = packed
        self._multiple = _TENSOR_CORES if torch.cuda.is_available() else 1

    def __call__(self, entries: list[list[tuple[TokenRow, float]]]) -> dict[str, torch.Tensor]:
        """Return the micro-batch of these rows or packs."""
        entries = [entry for entry in entries if entry]
        if not entries:
            return self._nothing()
        return self._laid_end_to_end(entries) if self._packed else self._padded(entries)

    def _padded(self, entries: list[list[tuple[TokenRow, float]]]) -> dict[str, torch.Tensor]:
        rows = [row for entry in entries for row in entry]
        longest = max(len(row.input_ids) for row, _ in rows)
        width = -(-longest // self._multiple) * self._multiple
        ids = np.full((len(rows), width), self._pad_id, dtype=np.int64)
        targets = np.full((len(rows), width), IGNORED, dtype=np.int64)
        mask = np.zeros((len(rows), width), dtype=np.int64)
        weights = np.zeros((len(rows), width), dtype=np.float32)
        for at, (row, weight) in enumerate(rows):
            length = len(row.input_ids)
            ids[at, :length] = row.input_ids
            targets[at, : length - 1] = row.labels[1:]
            mask[at, :length] = 1
            weights[at, :length] = weight
        return _tensors(input_ids=ids, attention_mask=mask, targets=targets, weights=weights)

    def _laid_end_to_end(self, entries: list[list[tuple[TokenRow, float]]]) -> dict[str, torch.Tensor]:
        rows = [row for entry in entries for row in entry]
        shifted = [np.append(row.labels[1:], IGNORED) for row, _ in rows]
        lengths = [len(row.input_ids) for row, _ in rows]
        # Without an attention mask transformers tells the rows apart by positions that fall back to 0.
        return _tensors(
            input_ids=np.concatenate([row.input_ids for row, _ in rows])[None].astype(np.int64),
            position_ids=np.concatenate([np.arange(length) for length in lengths])[None],
            targets=np.concatenate(shifted)[None].astype(np.int64),
            weights=np.repeat([weight for _, weight in rows], lengths)[None].astype(np.float32),
        )

    def _nothing(self) -> dict[str, torch.Tensor]:
        ids = np.full((1, _NOTHING), self._pad_id, dtype=np.int64)
        places = (
            {"position_ids": np.arange(_NOTHING)[None]}
            if self._packed
            else {"attention_mask": np.ones_like(ids)}
        )
        return _tensors(
            input_ids=ids,
            targets=np.full_like(ids, IGNORED),
            weights=np.zeros(ids.shape, dtype=np.float32),
            **places,
        )


def _tensors(**arrays: np.ndarray) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
