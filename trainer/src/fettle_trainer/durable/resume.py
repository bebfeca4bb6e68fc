"""From where a run goes on: one checkpoint for all ranks, chosen and proven before anything is loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import distributed

from fettle_trainer.durable.compatible import ensure_compatible
from fettle_trainer.durable.pickles import refuse_unsafe_pickles
from fettle_trainer.durable.portable import PORTABLE_NAME
from fettle_trainer.errors import RunError

if TYPE_CHECKING:
    from fettle_trainer.durable.checkpoints import Checkpoint, CheckpointStore
    from fettle_trainer.durable.record import RunShape


def choose_checkpoint(store: CheckpointStore, shape: RunShape) -> Checkpoint | None:
    """Return the newest complete checkpoint, the same on every rank; raise on every rank if it cannot be used.

    Rank 0 alone reads the files: a hundred ranks that hash one volume are slower than one.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return _usable(store, shape)
    # An exception does not survive pickling when its constructor takes more than a message: its parts do.
    answer: list[Any] = [None, None]
    if distributed.get_rank() == 0:
        try:
            answer = [_usable(store, shape), None]
        except RunError as error:
            answer = [None, (type(error), error.code, error.message, error.param)]
    distributed.broadcast_object_list(answer, src=0)
    checkpoint, failure = answer
    if failure is not None:
        kind, *parts = failure
        raise kind(*parts)
    chosen: Checkpoint | None = checkpoint
    return chosen


def _usable(store: CheckpointStore, shape: RunShape) -> Checkpoint | None:
    checkpoint = store.newest_complete()
    if checkpoint is None:
        return None
    portable = (checkpoint.path / PORTABLE_NAME).is_file()
    ensure_compatible(checkpoint.facts.shape, shape, checkpoint.path, portable=portable)
    refuse_unsafe_pickles(checkpoint.path)
    return checkpoint
