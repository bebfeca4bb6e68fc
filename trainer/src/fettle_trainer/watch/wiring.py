"""Which observers a run has, in the order in which they hear."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fettle_trainer.watch.callback import Watch
from fettle_trainer.watch.console import console
from fettle_trainer.watch.loss_curve import CURVE_NAME, LossCurve
from fettle_trainer.watch.memory import peak_memory_bytes
from fettle_trainer.watch.metrics_file import METRICS_NAME, MetricsFile
from fettle_trainer.watch.mlflow import Mlflow
from fettle_trainer.watch.progress import Progress
from fettle_trainer.watch.results_csv import RESULTS_NAME, ResultsCsv
from fettle_trainer.watch.tensorboard import TensorBoard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fettle_trainer.config.run import RunConfig
    from fettle_trainer.watch.board import Board
    from fettle_trainer.watch.observer import Observer


@dataclass(frozen=True)
class RunFacts:
    """What the observers should know of a run beside its configuration."""

    settings: Mapping[str, object] = field(default_factory=dict)
    """The resolved ones, for the trackers."""
    flops_per_token: float | None = None
    peak_flops: float | None = None


def watch_run(
    config: RunConfig, work: Path, board: Board, facts: RunFacts, tell: Callable[[str], None]
) -> Watch:
    """Return the one callback that the Trainer needs."""
    metrics = work / METRICS_NAME
    observers: list[Observer] = [
        # The board first, because the console reads it; metrics.jsonl before what is made from it.
        Progress(
            board, peak_memory_bytes, flops_per_token=facts.flops_per_token, peak_flops=facts.peak_flops
        ),
        MetricsFile(metrics),
        ResultsCsv(work / RESULTS_NAME, metrics),
        LossCurve(work / CURVE_NAME, metrics),
        console(sys.stderr, board),
    ]
    if config.tracking.tensorboard:
        observers.append(TensorBoard(work / "tensorboard"))
    if config.tracking.mlflow is not None:
        params = {name: str(value) for name, value in facts.settings.items()}
        observers.append(Mlflow(config.tracking.mlflow, config.output.adapter_name, params, work, tell))
    return Watch(observers, tell)
