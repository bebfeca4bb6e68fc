"""Which rows make which step, and which rank holds them."""

import numpy as np
import pytest

from fettle_trainer.train.plan import EMPTY, PlannedBatches, deal, plan_epoch

LENGTHS = np.random.default_rng(1).integers(4, 400, size=203)


def test_every_row_stands_in_an_epoch_exactly_once_and_only_the_last_step_is_smaller() -> None:
    steps = plan_epoch(LENGTHS, seed=7, epoch=0, batch_size=16)
    assert sorted(np.concatenate(steps)) == list(range(203))
    assert [len(step) for step in steps] == [16] * 12 + [11]


def test_the_longest_rows_come_first_so_that_memory_runs_out_at_once_or_never() -> None:
    first = plan_epoch(LENGTHS, seed=7, epoch=0, batch_size=16)[0]
    assert LENGTHS[first].max() == LENGTHS.max()


def test_epochs_and_seeds_differ_and_the_same_ones_agree() -> None:
    plans = {
        (seed, epoch): np.concatenate(plan_epoch(LENGTHS, seed=seed, epoch=epoch, batch_size=8)).tolist()
        for seed in (1, 2)
        for epoch in (0, 1)
    }
    assert len({tuple(plan) for plan in plans.values()}) == 4
    again = np.concatenate(plan_epoch(LENGTHS, seed=2, epoch=1, batch_size=8)).tolist()
    assert again == plans[2, 1]


@pytest.mark.parametrize(("world_size", "micro"), [(1, 16), (1, 4), (2, 4), (4, 1), (3, 2), (2, 8)])
def test_ranks_and_micro_batches_change_nothing_about_what_a_step_learns_from(
    world_size: int, micro: int
) -> None:
    steps = plan_epoch(LENGTHS, seed=7, epoch=3, batch_size=16)
    micro_batches = -(-16 // (world_size * micro))
    ranks = []
    for rank in range(world_size):
        batches = PlannedBatches(
            LENGTHS,
            seed=7,
            batch_size=16,
            micro_batch_size=micro,
            micro_batches=micro_batches,
            world_size=world_size,
            rank=rank,
        )
        batches.set_epoch(3)
        mine = list(batches)
        assert len(mine) == len(batches) == len(steps) * micro_batches
        assert max(map(len, mine)) <= micro
        ranks.append(mine)
    for at, step in enumerate(steps):
        here = slice(at * micro_batches, (at + 1) * micro_batches)
        dealt = [row for mine in ranks for batch in mine[here] for row in batch if row != EMPTY]
        assert sorted(dealt) == sorted(step)


def test_a_small_last_step_leaves_no_rank_without_a_micro_batch() -> None:
    dealt = deal([5, 9], LENGTHS, world_size=2, micro_batch_size=4, micro_batches=2)
    assert [[len(batch) for batch in rank] for rank in dealt] == [[1, 1], [1, 1]]
    assert sum(batch == [EMPTY] for rank in dealt for batch in rank) == 2


def test_rows_of_like_length_stand_together_so_little_is_padded() -> None:
    batches = PlannedBatches(LENGTHS, seed=7, batch_size=16, micro_batch_size=4, micro_batches=4)
    cells = sum(len(batch) * LENGTHS[batch].max() for batch in batches)
    assert LENGTHS.sum() / cells > 0.93
