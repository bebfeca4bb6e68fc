"""This trainer, as its command `train` runs it: data checked, checkpoints and reports written, stop signals heard."""

# ruff: noqa: INP001 - a program for people, no package

from __future__ import annotations

import os
import sys
from pathlib import Path

from meter import Meter

from fettle_trainer.config.run import RunConfig
from fettle_trainer.data.http import limits_from
from fettle_trainer.durable.stop import StopRequest
from fettle_trainer.train.fit import fit
from fettle_trainer.train.job import make_job
from fettle_trainer.watch.board import Board
from fettle_trainer.watch.wiring import RunFacts, watch_run


def main(folder: Path, rows: Path, batch: int) -> None:
    """Train one epoch."""
    output = rows.parent / f"fettle-{os.getpid()}"
    config = RunConfig.model_validate(
        {
            "model": {"path": str(folder)},
            "dataset": {"train": [{"path": str(rows)}], "validationSplit": "0%"},
            "training": {"epochs": 1, "batchSize": batch, "learningRate": 2e-4},
            "output": {"directory": str(output), "adapterName": "benchmark"},
        }
    )
    job = make_job(config, limits_from(os.environ))
    meter = Meter()
    watch = watch_run(config, job.folders.work, Board(), RunFacts(), lambda _: None)
    engine = fit(job, StopRequest(), [watch, meter])
    losses = [entry["loss"] for entry in engine.state.log_history if "loss" in entry]
    meter.tell(sum(losses) / len(losses))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
