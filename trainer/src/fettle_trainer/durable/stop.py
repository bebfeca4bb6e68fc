"""Stopping: a signal sets a flag, all ranks agree on the step, and nobody goes on to release a half-trained model."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import torch
from torch import distributed
from transformers import TrainerCallback

from fettle_trainer.durable.signals import heard_by
from fettle_trainer.errors import StoppedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from transformers import TrainerControl, TrainerState, TrainingArguments

_SAME_REQUEST_S: Final = 1.0
"""A terminal and a launcher both deliver one Ctrl-C; two within this time are one."""


class StopRequest:
    """Whether this process was asked to stop; a second request ends it at once."""

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._since = 0.0

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Handle SIGTERM and SIGINT within the block."""
        with heard_by(self._handle):
            yield self

    def check(self) -> None:
        """Raise StoppedError if a stop was requested; for work on one process that has nothing more to save."""
        if self.requested is not None:
            raise stopped(self.requested)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.requested is None:
            self.requested = signal.Signals(number)
            self._since = now
        elif now - self._since > _SAME_REQUEST_S:
            # No clean-up: whoever asks twice has no time for it, and the last checkpoint is whole.
            os._exit(128 + number)


def stopped(number: signal.Signals | None) -> StoppedError:
    """Return the error that ends a stopped run with its own exit code."""
    name = "another rank" if number is None else number.name
    return StoppedError(
        "Stopped",
        f"The run was stopped by {name} after it had saved its state. It goes on from the newest checkpoint.",
    )


class EvaluationStopped(Exception):
    """All ranks have agreed to stop within an evaluation."""


class AgreedStop(TrainerCallback):
    """Stops all ranks at the same step: each step ends with the question whether anybody was asked to stop."""

    def __init__(self, request: StopRequest) -> None:
        self.request = request
        self.stopped = False
        """All ranks have agreed; the training loop ends with a checkpoint."""
        self.evaluation_pending = False
        """An evaluation was due at the step of the stop, and was skipped or cut off."""
        self._group: distributed.ProcessGroup | None = None

    def on_step_end(
        self, _args: TrainingArguments, _state: TrainerState, control: TrainerControl, **_kwargs: object
    ) -> None:
        """Agree after every optimizer step; a stop saves first and evaluates when the run goes on."""
        if self._agreed():
            self.evaluation_pending = control.should_evaluate
            self._stop(control)

    def on_epoch_end(
        self, _args: TrainingArguments, _state: TrainerState, control: TrainerControl, **_kwargs: object
    ) -> None:
        """Keep the end of an epoch from starting an evaluation after the stop."""
        if self.stopped:
            control.should_evaluate = False

    def on_prediction_step(
        self, _args: TrainingArguments, _state: TrainerState, _control: TrainerControl, **_kwargs: object
    ) -> None:
        """Agree within an evaluation, too: it may take longer than the grace period."""
        if self._agreed():
            self.evaluation_pending = True
            self.stopped = True
            raise EvaluationStopped

    def _stop(self, control: TrainerControl) -> None:
        self.stopped = True
        control.should_evaluate = False
        control.should_save = True
        control.should_training_stop = True

    def _agreed(self) -> bool:
        asked = self.request.requested is not None
        if not distributed.is_initialized() or distributed.get_world_size() == 1:
            return asked
        if self._group is None:
            # On the CPU whatever the training's backend is: a flag must not wait for a GPU's queue.
            self._group = distributed.new_group(backend="gloo")
        flag = torch.tensor([asked], dtype=torch.uint8)
        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX, group=self._group)
        return bool(flag.item())
