"""The Trainer that loses nothing: atomic checkpoints, exact resume, agreed stops.

transformers writes a checkpoint's files and reads them back; this class decides where they go, when they count as a
checkpoint, and what happens around them. It knows neither data nor loss: the engine derives from it.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import distributed
from transformers import Trainer
from transformers.trainer_callback import ExportableState
from transformers.trainer_utils import TrainOutput, set_seed

from fettle_trainer.durable import portable
from fettle_trainer.durable.checkpoints import flush
from fettle_trainer.durable.compatible import same_layout
from fettle_trainer.durable.failures import save_failure
from fettle_trainer.durable.pickles import restricted_unpickling
from fettle_trainer.durable.record import CheckpointFacts
from fettle_trainer.durable.stop import EvaluationStopped
from fettle_trainer.durable.watchdog import diverged
from fettle_trainer.durable.weights import ensure_adapter_is_whole

if TYPE_CHECKING:
    from fettle_trainer.durable.checkpoints import Checkpoint, CheckpointStore
    from fettle_trainer.durable.record import RunShape
    from fettle_trainer.durable.stop import AgreedStop

_TRAINER_STATE = "trainer_state.json"
_SCHEDULE = "scheduler.pt"
_ARGUMENTS_PICKLE = "training_args.bin"


@dataclass(frozen=True)
class Durability:
    """What the trainer needs to lose nothing."""

    store: CheckpointStore
    shape: RunShape
    stop: AgreedStop


class TrainingIsOver(Exception):
    """The evaluation that a signal had cut off says that there is nothing left to train."""


class DurableTrainer(Trainer):
    """A transformers Trainer whose checkpoints are whole and whose resume is exact."""

    def __init__(self, *args: Any, durability: Durability, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.durability = durability
        # Last, so that it sees what all others have asked for in the same step.
        self.add_callback(durability.stop)
        self.save_seconds: float | None = None
        """How long the newest checkpoint of this process took."""
        self._resumed: Checkpoint | None = None
        self._saved_step: int | None = None

    def resume(self, checkpoint: Checkpoint | None) -> TrainOutput:
        """Train from a checkpoint, or from the start; all ranks name the same one (see resume.choose_checkpoint)."""
        self._resumed = checkpoint
        self._saved_step = checkpoint.facts.step if checkpoint else None
        self.args.eval_on_start = bool(checkpoint and checkpoint.facts.evaluation_pending)
        try:
            return self.train(resume_from_checkpoint=str(checkpoint.path) if checkpoint else None)
        except EvaluationStopped:
            # Nothing was trained since the checkpoint that this attempt began with, so nothing has to be saved.
            return TrainOutput(self.state.global_step, 0.0, {})
        except TrainingIsOver:
            self._save_as_complete()
            return TrainOutput(self.state.global_step, 0.0, {})

    # ---- saving

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        del model, trial
        step = self.state.global_step
        if step == self._saved_step or not self._loss_is_finite():
            return
        store, started = self.durability.store, time.monotonic()
        try:
            if self.args.process_index == 0:
                store.begin(step)
            self._barrier()
            self._write(store.staging(step))
            self._barrier()
            if self.args.process_index == 0:
                store.commit(step, self._facts(time.monotonic() - started))
                store.prune(step, self.state.best_global_step)
        except Exception as error:
            store.discard(step)
            if failure := save_failure(error, store, step):
                raise failure from error
            raise
        # A rank that goes on before the rename could be the one that reports a step nobody can go back to.
        self._barrier()
        self._saved_step = step
        self.save_seconds = time.monotonic() - started

    def _write(self, folder: Path) -> None:
        """Write all files of a checkpoint; every rank takes part, because sharded state is gathered."""
        self.store_flos()
        self.save_model(str(folder), _internal_call=True)
        self._save_optimizer_and_scheduler(str(folder))
        self._save_scaler(str(folder))
        self._save_rng_state(str(folder))
        if self._has_portable_state():
            portable.save_portable(
                self.model,
                self.optimizer,
                folder / portable.PORTABLE_NAME,
                write=self.args.process_index == 0,
            )
        if self.args.process_index == 0:
            for superfluous in (folder / _ARGUMENTS_PICKLE, *folder.glob("*.py"), *folder.glob("*.md")):
                superfluous.unlink(missing_ok=True)
            self._save_state(folder / _TRAINER_STATE)
            if self.durability.shape.method != "full":
                ensure_adapter_is_whole(folder)
        self._barrier()
        if self.args.local_process_index == 0:
            flush(folder)

    def _save_state(self, path: Path) -> None:
        callbacks = [*self.callback_handler.callbacks, self.control]
        states: dict[str, Any] = {}
        for callback in callbacks:
            if isinstance(callback, ExportableState):
                states.setdefault(type(callback).__name__, []).append(callback.state())
        self.state.stateful_callbacks = {
            name: found if len(found) > 1 else found[0] for name, found in states.items()
        }
        self.state.save_to_json(str(path))

    def _facts(self, seconds: float) -> CheckpointFacts:
        stop, state = self.durability.stop, self.state
        over = state.global_step >= state.max_steps or self.control.should_training_stop
        return CheckpointFacts(
            step=state.global_step,
            shape=self.durability.shape,
            save_seconds=seconds,
            training_complete=over
            and not stop.evaluation_pending
            and (not stop.stopped or state.global_step >= state.max_steps),
            evaluation_pending=stop.evaluation_pending,
            best_step=state.best_global_step,
        )

    def _has_portable_state(self) -> bool:
        return self.durability.shape.method != "full" and portable.is_portable(self.optimizer)

    def _save_as_complete(self) -> None:
        """Leave a checkpoint that says: training is over, evaluate and export."""
        if not self._loss_is_finite():
            raise diverged(self.state.global_step)
        if self._saved_step != self.state.global_step:
            self._save_checkpoint(self.model_wrapped, None)
        elif self.args.process_index == 0:
            self.durability.store.mark_complete(self.state.global_step)
        self._barrier()

    def _loss_is_finite(self) -> bool:
        """Whether the loss since the last log is a number on every rank; if not, the weights are no good either."""
        finite = torch.isfinite(self._tr_loss).to(torch.uint8)
        if self.args.world_size > 1:
            distributed.all_reduce(finite, op=distributed.ReduceOp.MIN)
        return bool(finite.item())

    def _finalize_training(self, *args: Any, **kwargs: Any) -> TrainOutput:
        if not self.durability.stop.stopped:
            self._save_as_complete()
        return super()._finalize_training(*args, **kwargs)

    # ---- resuming

    def _needs_portable(self) -> bool:
        """Whether the checkpoint's own files are cut for another number of ranks or another ZeRO stage."""
        return self._resumed is not None and not same_layout(self._resumed.facts.shape, self.durability.shape)

    def _prepare_for_training(self, max_steps: int, dataloader: Any, checkpoint: str | None) -> Any:
        if checkpoint is None or not self._needs_portable():
            with restricted_unpickling():
                return super()._prepare_for_training(max_steps, dataloader, checkpoint)
        if self.is_deepspeed_enabled:
            self._load_from_checkpoint(checkpoint)
        prepared = super()._prepare_for_training(max_steps, dataloader, None)
        portable.load_portable(self.model, self.optimizer, Path(checkpoint) / portable.PORTABLE_NAME)
        self._advance_schedule(Path(checkpoint))
        return prepared

    def _advance_schedule(self, checkpoint: Path) -> None:
        """Bring the schedule to where it was; its saved form depends on how the optimizer is cut into groups."""
        steps = torch.load(checkpoint / _SCHEDULE, weights_only=True)["last_epoch"]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step", UserWarning)
            for _ in range(steps):
                self.lr_scheduler.step()

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if self._resumed and self._resumed.facts.shape.world_size != self.args.world_size:
            # The saved states belong to other ranks; what is drawn now must not repeat what was drawn before.
            set_seed(self.args.seed + self.state.global_step * self.args.world_size + self.args.process_index)
        else:
            super()._load_rng_state(checkpoint)

    # ---- evaluating

    def _evaluate(
        self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False
    ) -> dict[str, float]:
        # An evaluation draws no randomness from training's: cut off or repeated, the next step is the same.
        with torch.random.fork_rng(devices=_devices()):
            try:
                metrics: dict[str, float] = super()._evaluate(trial, ignore_keys_for_eval, skip_scheduler)
            except EvaluationStopped:
                if self.state.global_step == self._saved_step:
                    raise
                self.control.should_save = True
                self.control.should_training_stop = True
                return {}
        if self.args.eval_on_start and self.state.global_step == self._saved_step:
            self._catch_up(metrics)
        return metrics

    def _catch_up(self, metrics: dict[str, float]) -> None:
        """Take the result of an evaluation that was cut off as if it had ended in time."""
        self.args.eval_on_start = False
        self._determine_best_metric(metrics, None)
        if self.control.should_training_stop:
            raise TrainingIsOver

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        if not metrics:
            return False
        is_best: bool = super()._determine_best_metric(metrics, trial)
        if is_best:
            # The best is only worth something if it can be loaded.
            self.control.should_save = True
        return is_best

    def _barrier(self) -> None:
        if self.args.world_size > 1:
            distributed.barrier()


def _devices() -> list[int]:
    return [torch.cuda.current_device()] if torch.cuda.is_available() else []
