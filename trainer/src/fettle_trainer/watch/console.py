"""What is seen where the run was started: a bar on a terminal, JSON lines in a pod; standard output is for the outcome."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final, TextIO

from tqdm import tqdm

from fettle_trainer.watch.observer import Observer, Position
from fettle_trainer.watch.pace import for_people

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fettle_trainer.config.progress import ProgressReport
    from fettle_trainer.watch.board import Board

_SHOWN: Final = ("loss", "eval_loss", "learning_rate")


def console(stream: TextIO, board: Board) -> Observer:
    """Return what fits the stream."""
    return Bar(stream, board) if stream.isatty() else JsonLines(stream, board)


class Bar(Observer):
    """One line that is drawn anew."""

    def __init__(self, stream: TextIO, board: Board) -> None:
        self._stream = stream
        self._board = board
        self._bar: tqdm[Any] | None = None

    def begins(self, at: Position) -> None:
        """Draw the bar where the run stands."""
        self._bar = tqdm(
            total=at.total_steps,
            initial=at.step,
            file=self._stream,
            unit="step",
            dynamic_ncols=True,
            bar_format="{percentage:3.0f}% |{bar}| {n_fmt}/{total_fmt}{postfix}",
        )

    def step_ends(self, at: Position) -> None:
        """Move on; the time left is the board's, which leaves out evaluation and saving."""
        if self._bar is not None:
            self._bar.set_postfix_str(_remarks(self._board.read()), refresh=False)
            self._bar.update(at.step - self._bar.n)

    def ends(self, at: Position) -> None:  # noqa: ARG002 - the observer's interface
        """Leave the last state on the terminal."""
        if self._bar is not None:
            self._bar.set_postfix_str(_remarks(self._board.read()))
            self._bar.close()
            self._bar = None


class JsonLines(Observer):
    """One JSON object per measurement, for a log collector."""

    def __init__(self, stream: TextIO, board: Board) -> None:
        self._stream = stream
        self._board = board

    def logs(self, at: Position, values: Mapping[str, float]) -> None:
        """Write what was measured, and how fast it goes."""
        report = self._board.read()
        line = {
            "step": at.step,
            "totalSteps": at.total_steps,
            **{name: value if math.isfinite(value) else None for name, value in values.items()},
            "tokensPerSecond": report.tokens_per_second,
            "eta": report.eta,
        }
        self._stream.write(
            json.dumps({key: value for key, value in line.items() if value is not None}) + "\n"
        )
        self._stream.flush()


def _remarks(report: ProgressReport) -> str:
    words = [
        f"{name.replace('_', ' ')} {getattr(report, name):.4g}" for name in _SHOWN if getattr(report, name)
    ]
    if report.tokens_per_second is not None:
        words.append(f"{report.tokens_per_second:,.0f} tokens/s")
    if report.remaining_seconds is not None:
        words.append(f"{for_people(report.remaining_seconds)} left")
    return ", ".join(words)
