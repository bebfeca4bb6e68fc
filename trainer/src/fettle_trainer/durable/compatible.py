"""Whether a run can go on from a checkpoint, and if not, the sentence that says why and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle_trainer.errors import WrongInputError

if TYPE_CHECKING:
    from pathlib import Path

    from fettle_trainer.durable.record import RunShape


def ensure_compatible(before: RunShape, now: RunShape, path: Path, *, portable: bool) -> None:
    """Raise WrongInputError unless the run that wrote the checkpoint is the one that is to go on.

    `portable` says that the checkpoint holds the optimizer's state whole, by parameter name.
    """
    ensure_same_run(before.run_digest, now.run_digest, path)
    if before.global_batch != now.global_batch:
        raise _mismatch(
            f"{path} was trained with {before.global_batch} rows for each step, this run has {now.global_batch}",
            f"Set training.batchSize to {before.global_batch}.",
            "training.batchSize",
        )
    if not same_layout(before, now) and not portable:
        raise _mismatch(
            f"{path} was written by {_layout(before)}, this run has {_layout(now)}, and the state of method"
            f" {now.method} with this optimizer is cut for the number of processes",
            f"Run with {_layout(before)} as before, or start anew in another output.workDirectory.",
            "distributed",
        )


def ensure_same_run(before: str, now: str, path: Path) -> None:
    """Raise WrongInputError unless both digests name the same run."""
    if before != now:
        raise _mismatch(
            f"{path} belongs to a run with other settings, another model or other data",
            "Remove the folder to start anew, or give this run its own output.workDirectory.",
            "output.workDirectory",
        )


def same_layout(before: RunShape, now: RunShape) -> bool:
    """Whether the files of one can be loaded by the other as they are."""
    if before.zero_stage is None and now.zero_stage is None:
        # Without DeepSpeed every process holds everything, however many they are.
        return True
    return (before.world_size, before.zero_stage) == (now.world_size, now.zero_stage)


def _layout(shape: RunShape) -> str:
    processes = "1 process" if shape.world_size == 1 else f"{shape.world_size} processes"
    return processes if shape.zero_stage is None else f"{processes} under ZeRO stage {shape.zero_stage}"


def _mismatch(what: str, advice: str, param: str) -> WrongInputError:
    return WrongInputError("CheckpointMismatch", f"The checkpoint {what}. {advice}", param)
