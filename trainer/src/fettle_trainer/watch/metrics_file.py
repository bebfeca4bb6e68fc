"""`metrics.jsonl`: everything the engine has measured, one line each, in the order of the steps.

A run that is killed has logged steps that its checkpoint does not know, and logs them again after the resume. So the
file is cut back to the step that the run goes on from: no step stands there twice, none contradicts another.
"""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fettle_trainer.atomic import write_atomically
from fettle_trainer.watch.observer import Observer, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

METRICS_NAME = "metrics.jsonl"


def _now() -> datetime:
    return datetime.now(UTC)


class MetricsFile(Observer):
    """Appends a line per measurement; what is not a number is written as null, which JSON knows."""

    def __init__(self, path: Path, clock: Callable[[], datetime] = _now) -> None:
        self._path = path
        self._clock = clock

    def begins(self, at: Position) -> None:
        """Cut the file back to the step that the run goes on from."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        kept = [line for line in read_metrics(self._path) if line["step"] <= at.step] if at.step else []
        write_atomically(self._path, "".join(_text(line) for line in kept).encode())

    def logs(self, at: Position, values: Mapping[str, float]) -> None:
        """Append a line."""
        measured = {
            name: value if math.isfinite(value) else None for name, value in values.items() if name != "step"
        }
        line = {"step": at.step, "at": self._clock().isoformat(timespec="seconds"), **measured}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(_text(line))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the lines; one that a killed writer left torn ends them."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    lines: list[dict[str, Any]] = []
    for row in text.splitlines():
        try:
            line = json.loads(row)
        except ValueError:
            break
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            break
        lines.append(line)
    return lines


def _text(line: Mapping[str, Any]) -> str:
    return json.dumps(line) + "\n"
