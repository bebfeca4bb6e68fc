"""Measuring an artefact that lies in a folder, however it came there."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fettle_trainer.adapter.errors import AdapterRefusedError
from fettle_trainer.adapter.verify import verify_adapter
from fettle_trainer.errors import WrongInputError
from fettle_trainer.evaluate.compare import compare
from fettle_trainer.export.base_digest import require_same_base
from fettle_trainer.export.flow import lent_base
from fettle_trainer.export.loading import load_artefact
from fettle_trainer.train.finishing import export_job, held_out_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from fettle_trainer.config.evaluation_report import EvaluationReport
    from fettle_trainer.config.verification import VerifiedAdapter
    from fettle_trainer.train.fit import Job


def evaluate_artefact(job: Job, folder: Path, into: Path, check: Callable[[], None]) -> EvaluationReport:
    """Verify an adapter or a model, measure it beside its base, and write the report and the samples."""
    found = _verified(folder)
    require_same_base(found, job.base_digest)
    export = export_job(job)
    data = held_out_of(job, export)
    if data is None:
        raise WrongInputError(
            "EvaluationImpossible",
            "The dataset holds no rows out to evaluate on. Give dataset.validation or dataset.validationSplit.",
            "dataset",
        )
    method = found.method if found.artefact == "adapter" else "full"
    model = load_artefact(folder, job.base, method, job.resolved.precision)
    base = partial(lent_base, model, export, method) if job.config.evaluation.compare_to_base else None
    comparison = compare(model, base, data, job.config.evaluation.gates, check)
    into.mkdir(parents=True, exist_ok=True)
    comparison.write(into, data)
    return comparison.report


def newest_release(releases: Path) -> Path:
    """Return the artefact that was released last."""
    found = [path for path in releases.glob("*/manifest.json") if not path.parent.name.startswith(".")]
    if not found:
        raise WrongInputError(
            "AdapterMissing", f"{releases} holds no released adapter. Train one, or name one with --adapter."
        )
    return max(found, key=lambda path: (path.stat().st_mtime_ns, path)).parent


def _verified(folder: Path) -> VerifiedAdapter:
    try:
        return verify_adapter(Path(folder).resolve())
    except AdapterRefusedError as error:
        raise WrongInputError("AdapterRefused", f"{folder}: {error.message}", error.file) from error
