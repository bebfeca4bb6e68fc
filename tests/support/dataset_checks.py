"""Running the check of a dataset from a test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fettle_trainer.config.dataset import DatasetConfig
from fettle_trainer.config.run import TrainingConfig
from fettle_trainer.data.check import check_dataset
from fettle_trainer.data.sources import PUBLIC_ONLY, found_files

if TYPE_CHECKING:
    from pathlib import Path

    from fettle_trainer.config import DatasetReport
    from fettle_trainer.data.http import Limits


def check(
    path: str | Path = "",
    training: dict[str, Any] | None = None,
    limits: Limits = PUBLIC_ONLY,
    **settings: Any,
) -> DatasetReport:
    """Check the files of a path, or of the sources given as settings."""
    document = {"train": [{"path": str(path)}]} if path else {}
    dataset = DatasetConfig.model_validate({**document, **settings})
    with found_files(dataset, limits) as files:
        return check_dataset(files, dataset, TrainingConfig.model_validate(training or {}))


def codes(report: DatasetReport) -> list[str]:
    """Return the codes of the listed findings."""
    return [str(finding.code) for finding in report.findings]
