"""What an observer of a run hears."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Position:
    """Where the run stands."""

    step: int
    """Optimizer steps done, those before a resume included."""
    total_steps: int
    epoch: float | None = None
    world_size: int = 1


class Observer:
    """Hears nothing; an observer overrides what concerns it. Only the first rank has observers."""

    def begins(self, at: Position) -> None:
        """Hear that the steps begin, the first one or the first after a resume."""

    def step_ends(self, at: Position) -> None:
        """Hear that an optimizer step was done."""

    def logs(self, at: Position, values: Mapping[str, float]) -> None:
        """Hear what the engine has measured, in its own words; names with `eval_` come from an evaluation."""

    def evaluates(self, at: Position) -> None:
        """Hear that a batch of an evaluation was done."""

    def evaluated(self, at: Position) -> None:
        """Hear that an evaluation is over."""

    def saved(self, at: Position) -> None:
        """Hear that a checkpoint was saved."""

    def ends(self, at: Position) -> None:
        """Hear that there will be no more steps, for whatever reason."""
