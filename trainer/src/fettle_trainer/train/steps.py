"""The steps of a run with everything around them: watched, stoppable, and leaving what export and evaluation need."""

from __future__ import annotations

import gc
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from fettle_trainer import strict_json
from fettle_trainer.atomic import write_atomically
from fettle_trainer.durable.failures import is_out_of_memory, out_of_memory
from fettle_trainer.durable.pickles import restricted_unpickling
from fettle_trainer.export.references import REFERENCES_NAME, proof_prompts, record_references
from fettle_trainer.train.chosen import chosen_settings
from fettle_trainer.train.fit import fit
from fettle_trainer.train.job import with_micro_batch_of, write_settings
from fettle_trainer.watch.flops import attended_length, flops_per_token, peak_flops
from fettle_trainer.watch.wiring import RunFacts, watch_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fettle_trainer.durable.stop import StopRequest
    from fettle_trainer.train.engine import Engine
    from fettle_trainer.train.fit import Job
    from fettle_trainer.watch.board import Board


@dataclass(frozen=True)
class Fitted:
    """What the steps left behind."""

    checkpoint: str
    """The name of the checkpoint that is exported: the best one where validation tells, else the last."""
    step: int
    """The step of that checkpoint."""
    total_steps: int
    metrics: dict[str, float]
    save_seconds: float | None
    micro_batch_size: int
    run_digest: str
    """Which run it was: other settings make another one."""

    def write(self, path: Path) -> None:
        """Write it for whoever exports and evaluates."""
        write_atomically(path, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, path: Path) -> Fitted:
        """Read what was written."""
        return cls(**strict_json.loads(path.read_bytes()))


def train_steps(job: Job, request: StopRequest, board: Board, tell: Callable[[str], None]) -> None:
    """Train to the end and leave `fitted.json`, the references for the proof and the checkpoint, on all ranks alike.

    Where the micro-batch was left open and there is one process, one that does not fit is halved here and now; with
    several ranks the run ends with OUT_OF_MEMORY, because no rank can tell what state the others are in.
    """
    while True:
        try:
            engine = fit(job, request, [_watch(job, board, tell)])
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            size = job.resolved.micro_batch_size
            if size == 1 or job.resolved.world_size > 1 or job.config.training.micro_batch_size is not None:
                raise out_of_memory(size) from error
            tell(f"A micro-batch of {size} rows does not fit into memory; going on with {size // 2}.")
            job = with_micro_batch_of(job, size // 2)
            write_settings(job)
        else:
            _leave(job, engine)
            return
        # Outside of the handler: the exception's traceback holds the tensors.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _watch(job: Job, board: Board, tell: Callable[[str], None]) -> Any:
    board.update(resolved=chosen_settings(job.config, job.resolved, job.prepared.row_format))
    lengths = job.prepared.train.lengths.astype(float)
    attended = attended_length(float(lengths.sum()), float((lengths**2).sum()))
    facts = RunFacts(
        settings={name: value for name, value in asdict(job.resolved).items() if name != "reasons"},
        flops_per_token=flops_per_token(job.shape, job.resolved.method, attended),
        peak_flops=peak_flops(job.hardware.name),
    )
    return watch_run(job.config, job.folders.work, board, facts, tell)


def _leave(job: Job, engine: Engine) -> None:
    best = engine.state.best_global_step
    last = engine.state.global_step
    step = best if best is not None and best != last else last
    checkpoint = engine.durability.store.path(step)
    if step != last:
        _load_best(engine, checkpoint)
    references = record_references(engine.model, proof_prompts(job.prepared))
    if engine.args.process_index != 0:
        return
    references.write(job.folders.work / REFERENCES_NAME)
    Fitted(
        checkpoint=checkpoint.name,
        step=step,
        total_steps=job.resolved.total_steps,
        metrics=_last_metrics(engine),
        save_seconds=engine.save_seconds,
        micro_batch_size=job.resolved.micro_batch_size,
        run_digest=engine.durability.shape.run_digest,
    ).write(job.folders.fitted)


def _load_best(engine: Engine, checkpoint: Path) -> None:
    engine.state.best_model_checkpoint = str(checkpoint)
    with restricted_unpickling():
        engine._load_best_model()  # noqa: SLF001 - transformers does so itself at the end of training, but by a path of its own


def _last_metrics(engine: Engine) -> dict[str, float]:
    wanted = {
        "loss": "trainLoss",
        "mean_token_accuracy": "trainTokenAccuracy",
        "eval_loss": "evalLoss",
        "eval_mean_token_accuracy": "evalTokenAccuracy",
    }
    found: dict[str, float] = {}
    for entry in engine.state.log_history:
        found |= {wanted[name]: float(value) for name, value in entry.items() if name in wanted}
    if engine.state.best_metric is not None:
        found["evalLoss"] = float(engine.state.best_metric)
    return found
