"""From what the run tells to the progress report."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final

from fettle_trainer.watch.flops import utilisation
from fettle_trainer.watch.observer import Observer, Position
from fettle_trainer.watch.pace import Pace, for_people

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fettle_trainer.watch.board import Board

# The engine's word → ours.
_LOGGED: Final = {
    "loss": "loss",
    "eval_loss": "eval_loss",
    "mean_token_accuracy": "token_accuracy",
    "eval_mean_token_accuracy": "eval_token_accuracy",
    "learning_rate": "learning_rate",
    "grad_norm": "grad_norm",
    "padding_share": "padding_share",
}


class Progress(Observer):
    """Keeps the board up to date.

    `flops_per_token` and `peak_flops` belong to the utilisation (see `flops`); without them it stays unknown.
    """

    def __init__(
        self,
        board: Board,
        peak_memory_bytes: Callable[[], int],
        *,
        flops_per_token: float | None = None,
        peak_flops: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._board = board
        self._peak_memory_bytes = peak_memory_bytes
        self._flops_per_token = flops_per_token
        self._peak_flops = peak_flops
        self._clock = clock
        self._pace = Pace()

    def begins(self, at: Position) -> None:
        """Start the clock where the steps begin, after a resume too."""
        self._pace.started(self._clock())
        self._board.update(phase="training", first_step=at.step, **_position(at))

    def step_ends(self, at: Position) -> None:
        """Count the step."""
        self._pace.step_done(self._clock(), at.step)
        remaining_s = self._pace.remaining_s(at.step, at.total_steps)
        self._board.update(
            phase="training",
            remaining_seconds=remaining_s,
            eta=None if remaining_s is None else for_people(remaining_s),
            **_position(at),
        )

    def logs(self, at: Position, values: Mapping[str, float]) -> None:
        """Take over what the engine has measured."""
        if any(name.startswith("eval_") for name in values):
            self._pace.paused(self._clock())
        else:
            self._pace.trained(self._clock())
        if "num_tokens" in values:
            self._pace.tokens_seen(values["num_tokens"])
        if "data_wait_s" in values:
            self._pace.waited(values["data_wait_s"])
        speed = self._pace.tokens_per_second
        self._board.update(
            **{ours: _finite(values[theirs]) for theirs, ours in _LOGGED.items() if theirs in values},
            tokens_per_second=speed,
            data_wait_share=self._pace.data_wait_share,
            mfu=utilisation(speed, self._flops_per_token, self._peak_flops, at.world_size),
            peak_memory_bytes=self._peak_memory_bytes(),
        )

    def evaluates(self, at: Position) -> None:  # noqa: ARG002 - the observer's interface, here and below
        """Count the time of an evaluation's batch as no training."""
        self._pace.paused(self._clock())
        if self._board.read().phase != "evaluating":
            self._board.enter("evaluating")

    def evaluated(self, at: Position) -> None:  # noqa: ARG002
        """Go back to training after an evaluation."""
        self._resume_training()

    def saved(self, at: Position) -> None:  # noqa: ARG002
        """Go back to training after a checkpoint."""
        self._resume_training()

    def _resume_training(self) -> None:
        self._pace.paused(self._clock())
        self._board.enter("training")


def _position(at: Position) -> dict[str, Any]:
    percent = f" ({100 * at.step // at.total_steps}%)" if at.total_steps else ""
    return {
        "step": at.step,
        "total_steps": at.total_steps or None,
        "epoch": None if at.epoch is None else round(at.epoch, 4),
        "summary": f"{at.step}/{at.total_steps}{percent}"[:32],
    }


def _finite(number: float) -> float | None:
    """Return the number; nothing for the NaN of a diverged run, which JSON does not know."""
    return number if math.isfinite(number) else None
