"""Which rows make which step: decided by the data's lengths and the seed alone.

The plan knows neither ranks nor micro-batches, so a run that is resumed with other numbers of them makes the same
steps. Rows of like length stand in one step, and within a step in one micro-batch: little is padded, and the ranks
wait little for each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

_STEPS_SORTED_TOGETHER: Final = 16
"""Among the rows of so many steps those of like length find each other: chance enough remains, and little padding."""
EMPTY: Final = -1
"""Stands for a row that is padding all through: it keeps the ranks in step and teaches nothing."""


def steps_in_epoch(rows: int, batch_size: int) -> int:
    """Return how many steps one pass over the rows takes; the last one may be smaller."""
    return -(-rows // batch_size)


def plan_epoch(lengths: np.ndarray, *, seed: int, epoch: int, batch_size: int) -> list[np.ndarray]:
    """Return the rows of every step of one epoch."""
    random = np.random.Generator(np.random.Philox(key=[seed, epoch]))
    order = random.permutation(len(lengths))
    stretch = batch_size * _STEPS_SORTED_TOGETHER
    steps: list[np.ndarray] = []
    for start in range(0, len(order), stretch):
        rows = order[start : start + stretch]
        rows = rows[np.argsort(-lengths[rows], kind="stable")]
        steps.extend(rows[at : at + batch_size] for at in range(0, len(rows), batch_size))
    short = [step for step in steps if len(step) < batch_size]
    full = [step for step in steps if len(step) == batch_size]
    # The one smaller step comes last, as everywhere; the others in no order of length.
    full = [full[index] for index in random.permutation(len(full))]
    if epoch == 0 and full:
        # What fits with the longest rows fits always: memory runs out in the first minute or not at all.
        longest = max(range(len(full)), key=lambda index: int(lengths[full[index]].max()))
        full.insert(0, full.pop(longest))
    return full + short


def deal(
    rows: Sequence[int] | np.ndarray,
    lengths: np.ndarray,
    *,
    world_size: int,
    micro_batch_size: int,
    micro_batches: int,
) -> list[list[list[int]]]:
    """Deal the rows of one step: for each rank its micro-batches, every rank as many, all of like length at a time."""
    by_length = sorted((int(row) for row in rows), key=lambda row: (-int(lengths[row]), row))
    slots = world_size * micro_batches
    if len(by_length) > slots * micro_batch_size:
        msg = f"{len(by_length)} rows do not fit into {slots} micro-batches of {micro_batch_size}"
        raise ValueError(msg)
    # A smaller last step is spread evenly rather than leaving whole ranks idle.
    share, longer = divmod(len(by_length), slots)
    sizes = [share + (slot < longer) for slot in range(slots)]
    groups, at = [], 0
    for size in sizes:
        groups.append(by_length[at : at + size] or [EMPTY])
        at += size
    return [
        [groups[index * world_size + rank] for index in range(micro_batches)] for rank in range(world_size)
    ]


class PlannedBatches:
    """The batch sampler of one rank: micro-batches of row indexes, the same number on every rank."""

    def __init__(  # noqa: PLR0913 - what a plan is made of
        self,
        lengths: np.ndarray,
        *,
        seed: int,
        batch_size: int,
        micro_batch_size: int,
        micro_batches: int,
        world_size: int = 1,
        rank: int = 0,
    ) -> None:
        self._lengths = lengths
        self._seed = seed
        self._batch_size = batch_size
        self._deal = {
            "world_size": world_size,
            "micro_batch_size": micro_batch_size,
            "micro_batches": micro_batches,
        }
        self._rank = rank
        self._epoch = 0

    @property
    def batch_sampler(self) -> PlannedBatches:
        """Itself: where transformers looks for the sampler whose epoch it sets."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration goes through."""
        self._epoch = epoch

    def __len__(self) -> int:
        return steps_in_epoch(len(self._lengths), self._batch_size) * self._deal["micro_batches"]

    def __iter__(self):  # type: ignore[no-untyped-def]  # noqa: ANN204 - torch's samplers are untyped
        steps = plan_epoch(self._lengths, seed=self._seed, epoch=self._epoch, batch_size=self._batch_size)
        for rows in steps:
            yield from deal(rows, self._lengths, **self._deal)[self._rank]
