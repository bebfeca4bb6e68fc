"""From the Trainer's events to observers, none of which can fail or steer the training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from fettle_trainer.watch.observer import Observer, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from transformers import TrainerControl, TrainerState, TrainingArguments


class Watch(TrainerCallback):
    """Tells the observers, on the first rank only.

    A run is worth more than a line in one of its files: whatever an observer raises is told once, with its name, and
    that observer hears nothing from then on.
    """

    def __init__(self, observers: Sequence[Observer], tell: Callable[[str], None]) -> None:
        self._observers = list(observers)
        self._tell = tell

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any
    ) -> None:
        """Tell that the steps begin."""
        self._each(state, args, lambda observer, at: observer.begins(at))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any
    ) -> None:
        """Tell that a step was done."""
        self._each(state, args, lambda observer, at: observer.step_ends(at))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        _control: TrainerControl,
        logs: Mapping[str, Any] | None = None,
        **_: Any,
    ) -> None:
        """Tell what was measured."""
        numbers = {name: float(value) for name, value in (logs or {}).items() if _is_number(value)}
        self._each(state, args, lambda observer, at: observer.logs(at, numbers))

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any
    ) -> None:
        """Tell that an evaluation goes on."""
        self._each(state, args, lambda observer, at: observer.evaluates(at))

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any
    ) -> None:
        """Tell that an evaluation is over."""
        self._each(state, args, lambda observer, at: observer.evaluated(at))

    def on_save(
        self, args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any
    ) -> None:
        """Tell that a checkpoint was saved."""
        self._each(state, args, lambda observer, at: observer.saved(at))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, _control: TrainerControl, **_: Any
    ) -> None:
        """Tell that there will be no more steps."""
        self._each(state, args, lambda observer, at: observer.ends(at))

    def _each(
        self,
        state: TrainerState,
        args: TrainingArguments,
        event: Callable[[Observer, Position], None],
    ) -> None:
        if not state.is_world_process_zero:
            return
        at = Position(state.global_step, state.max_steps, state.epoch, args.world_size)
        for observer in tuple(self._observers):
            try:
                event(observer, at)
            except Exception as error:  # noqa: BLE001 - see the class
                self._observers.remove(observer)
                self._tell(_farewell(observer, error))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _farewell(observer: Observer, error: Exception) -> str:
    reason = next(iter(str(error).splitlines()), "no reason given")
    return (
        f"{type(observer).__name__} stopped watching: {type(error).__name__}: {reason}. "
        "The training goes on without it."
    )
