"""`results.csv`: the metrics per step under the column names that users of Azure OpenAI know."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any, Final

from fettle_trainer.atomic import write_atomically
from fettle_trainer.watch.metrics_file import read_metrics
from fettle_trainer.watch.observer import Observer, Position

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

RESULTS_NAME: Final = "results.csv"

# Column → the engine's word. An evaluation here always covers the whole validation set, so a step's validation values
# and the full ones are the same numbers.
_COLUMNS: Final = {
    "train_loss": "loss",
    "train_mean_token_accuracy": "mean_token_accuracy",
    "valid_loss": "eval_loss",
    "validation_mean_token_accuracy": "eval_mean_token_accuracy",
    "full_valid_loss": "eval_loss",
    "full_valid_mean_token_accuracy": "eval_mean_token_accuracy",
}


class ResultsCsv(Observer):
    """Renders the file from metrics.jsonl, so that the two cannot disagree."""

    def __init__(self, path: Path, metrics: Path) -> None:
        self._path = path
        self._metrics = metrics

    def evaluated(self, at: Position) -> None:  # noqa: ARG002 - the observer's interface, here and below
        """Renew the file after an evaluation."""
        self._write()

    def saved(self, at: Position) -> None:  # noqa: ARG002
        """Renew the file beside a new checkpoint."""
        self._write()

    def ends(self, at: Position) -> None:  # noqa: ARG002
        """Write the last state."""
        self._write()

    def _write(self) -> None:
        write_atomically(self._path, results_csv(read_metrics(self._metrics)).encode())


def results_csv(lines: Iterable[Mapping[str, Any]]) -> str:
    """Return the table: a row per step that was logged or evaluated, empty where nothing was measured."""
    steps: dict[int, dict[str, Any]] = {}
    for line in lines:
        measured = {column: line[key] for column, key in _COLUMNS.items() if line.get(key) is not None}
        if measured:
            steps.setdefault(line["step"], {}).update(measured)
    text = io.StringIO()
    writer = csv.DictWriter(text, ["step", *_COLUMNS], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({"step": step, **values} for step, values in sorted(steps.items()))
    return text.getvalue()
