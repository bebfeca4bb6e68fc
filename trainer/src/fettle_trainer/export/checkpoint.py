"""Exporting a checkpoint of a run, in the same way as its end: proof, evaluation, gates, release."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from fettle_trainer.durable.checkpoints import Checkpoint, CheckpointStore, TornCheckpointError
from fettle_trainer.durable.compatible import ensure_same_run
from fettle_trainer.errors import WrongInputError
from fettle_trainer.export.flow import finish, stage
from fettle_trainer.export.loading import forget_models, on_device
from fettle_trainer.export.references import proof_prompts, record_references
from fettle_trainer.train.finishing import export_job, held_out_of
from fettle_trainer.train.fit import run_shape, trained_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from fettle_trainer.export.flow import Finished
    from fettle_trainer.train.fit import Job

NEWEST = "newest"


def export_checkpoint(job: Job, name: str, check: Callable[[], None]) -> Finished:
    """Export the checkpoint of that name or path, or the newest one that is whole."""
    checkpoint = _chosen(CheckpointStore(job.folders.checkpoints), name)
    ensure_same_run(checkpoint.facts.shape.run_digest, run_shape(job).run_digest, checkpoint.path)
    model = on_device(trained_model(job, checkpoint.path))
    # No live model is left to compare with; what the checkpoint holds is the yardstick for what is exported from it.
    references = record_references(model, proof_prompts(job.prepared))
    export = export_job(job)
    staged = stage(model, export)
    del model
    forget_models()
    return finish(staged, export, references, held_out_of(job, export), check)


def _chosen(store: CheckpointStore, name: str) -> Checkpoint:
    if name == NEWEST:
        newest = store.newest_complete()
        if newest is None:
            raise WrongInputError(
                "CheckpointMissing",
                f"{store.folder} holds no complete checkpoint. Train first.",
                "--checkpoint",
            )
        return newest
    step = re.fullmatch(r"(?:.*/)?checkpoint-(\d+)/?", name)
    if step is None:
        raise WrongInputError(
            "CheckpointMissing",
            f"{name} is no checkpoint's name. Say checkpoint-STEP of {store.folder}, or {NEWEST}.",
            "--checkpoint",
        )
    try:
        return store.verified(int(step[1]))
    except TornCheckpointError as error:
        raise WrongInputError(
            "CheckpointDamaged",
            f"{name} cannot be exported: {error}. Name another, or say {NEWEST}.",
            "--checkpoint",
        ) from error
