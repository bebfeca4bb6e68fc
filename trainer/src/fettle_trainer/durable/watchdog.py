"""Stops a run whose loss has left the numbers: going on costs hours and changes nothing."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from transformers import TrainerCallback

from fettle_trainer.errors import WrongInputError

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

PATIENCE: Final = 3
"""Logged losses in a row that may be bad."""
_EXPLODED: Final = 10.0
"""Times the first loss, and at least …"""
_NATS: Final = 25.0
"""… this: far above the loss of a model that guesses."""


class LossWatchdog(TrainerCallback):
    """Ends the run when the logged loss is no number, or has exploded, several times in a row."""

    def __init__(self, patience: int = PATIENCE) -> None:
        self._patience = patience
        self._first: float | None = None
        self._strikes = 0

    def on_log(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_kwargs: Any,
    ) -> None:
        """Judge the loss of the steps since the last log; every rank logs the same one."""
        loss = (logs or {}).get("loss")
        if loss is None:
            return
        self._strikes = self._strikes + 1 if self._is_bad(loss) else 0
        if math.isfinite(loss) and self._first is None:
            self._first = loss
        if self._strikes >= self._patience:
            raise diverged(state.global_step, loss)

    def _is_bad(self, loss: float) -> bool:
        if not math.isfinite(loss):
            return True
        return self._first is not None and loss > max(_NATS, _EXPLODED * self._first)


def diverged(step: int, loss: float = math.nan) -> WrongInputError:
    """Return the error of a run that cannot become better; another attempt would do the same again."""
    return WrongInputError(
        "LossDiverged",
        f"The training loss is {loss:g} at step {step}: training has diverged. Lower training.learningRate, give it"
        " more training.warmup, or look for broken rows; checkpoints from before are kept.",
        "training.learningRate",
    )
