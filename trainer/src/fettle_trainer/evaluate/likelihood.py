"""How likely the model finds what the data answers, token by token of the held-out rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch

from fettle_trainer.evaluate.greedy import GreedySettings, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np

_IGNORED: Final = -100
_BATCH_TOKENS: Final = 2048
"""Cells of a batch; the logits of each cell are as wide as the vocabulary."""


class Row(Protocol):
    """Tokens, and the same again where they are trained, -100 elsewhere."""

    input_ids: np.ndarray
    labels: np.ndarray


class Rows(Protocol):
    """Rows that can be read in any order."""

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each row."""

    def row(self, number: int) -> Any:
        """Return a row's tokens and labels."""


@dataclass(frozen=True)
class Likelihood:
    """Over all trained tokens of the rows."""

    loss: float
    """Mean negative log-likelihood of a token."""
    token_accuracy: float
    """Share of the tokens that the model finds the most likely ones."""
    tokens: int


def likelihood(
    model: Any, rows: Rows, numbers: Sequence[int], pad_id: int, check: Callable[[], None] = lambda: None
) -> Likelihood:
    """Measure the rows of these numbers; `check` is called for every batch and may raise to stop."""
    loss, right, total = 0.0, 0, 0
    with plain(model, GreedySettings((), pad_id, 0)) as causal:
        for batch in _batches(rows, numbers):
            check()
            ids, labels, mask = _right_padded([rows.row(number) for number in batch], pad_id)
            logits = causal(
                input_ids=ids.to(causal.device), attention_mask=mask.to(causal.device), use_cache=False
            ).logits
            targets = labels[:, 1:].to(causal.device)
            chosen = targets != _IGNORED
            picked, wanted = logits[:, :-1][chosen].float(), targets[chosen]
            loss += float(torch.nn.functional.cross_entropy(picked, wanted, reduction="none").double().sum())
            right += int((picked.argmax(-1) == wanted).sum())
            total += len(wanted)
    return Likelihood(loss / max(total, 1), right / max(total, 1), total)


def _batches(rows: Rows, numbers: Sequence[int]) -> Iterator[list[int]]:
    batch: list[int] = []
    width = 0
    for number in sorted(numbers, key=lambda number: (-int(rows.lengths[number]), number)):
        if batch and (len(batch) + 1) * width > _BATCH_TOKENS:
            yield batch
            batch = []
        if not batch:
            width = int(rows.lengths[number])
        batch.append(number)
    if batch:
        yield batch


def _right_padded(rows: Sequence[Row], pad_id: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    width = max(len(row.input_ids) for row in rows)
    ids = torch.full((len(rows), width), pad_id)
    labels = torch.full((len(rows), width), _IGNORED)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for number, row in enumerate(rows):
        length = len(row.input_ids)
        ids[number, :length] = torch.as_tensor(row.input_ids)
        labels[number, :length] = torch.as_tensor(row.labels)
        mask[number, :length] = 1
    return ids, labels, mask
