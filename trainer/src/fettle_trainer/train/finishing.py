"""From the last step to the outcome: export, proof, evaluation, gates, release; on one process."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fettle_trainer.config.evaluation_report import EVALUATION_NAME
from fettle_trainer.config.outcome import Outcome, ReleasedAdapter
from fettle_trainer.errors import GateMissedError
from fettle_trainer.evaluate.compare import SAMPLES_NAME
from fettle_trainer.evaluate.model_scores import held_out
from fettle_trainer.export.flow import ExportJob, finish, stage
from fettle_trainer.export.lineage import (
    Lineage,
    asked_settings,
    base_name,
    library_versions,
    reported_metrics,
)
from fettle_trainer.export.loading import forget_models, on_device
from fettle_trainer.export.references import REFERENCES_NAME, References
from fettle_trainer.text.tokenizer import load_tokenizer
from fettle_trainer.train.chosen import chosen_settings
from fettle_trainer.train.fit import trained_model
from fettle_trainer.train.steps import Fitted
from fettle_trainer.watch.loss_curve import CURVE_NAME
from fettle_trainer.watch.metrics_file import METRICS_NAME
from fettle_trainer.watch.result import RunResult, tell_trackers
from fettle_trainer.watch.results_csv import RESULTS_NAME

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fettle_trainer.durable.stop import StopRequest
    from fettle_trainer.evaluate.model_scores import HeldOut
    from fettle_trainer.export.flow import Finished
    from fettle_trainer.train.fit import Job
    from fettle_trainer.watch.board import Board

_REPORTS: Any = {
    "resolved": "resolved.json",
    "receipt": "receipt.json",
    "metrics": METRICS_NAME,
    "results": RESULTS_NAME,
    "lossCurve": CURVE_NAME,
    "evaluation": EVALUATION_NAME,
    "samples": SAMPLES_NAME,
}


def finish_run(job: Job, request: StopRequest, board: Board, tell: Callable[[str], None]) -> Outcome:
    """Export what `fitted.json` names, prove and measure it; raise GateMissedError where it is not good enough."""
    fitted = Fitted.read(job.folders.fitted)
    export = export_job(job)
    board.enter("exporting")
    staged = stage(on_device(trained_model(job, job.folders.checkpoints / fitted.checkpoint)), export)
    forget_models()
    references = References.read(job.folders.work / REFERENCES_NAME)
    board.enter("evaluating")
    finished = finish(staged, export, references, held_out_of(job, export), request.check)
    tell_trackers(job.config, job.folders.work, _result(fitted, finished), tell)
    if finished.missed:
        raise GateMissedError("GateMissed", finished.missed, "evaluation.gates")
    board.enter("done")
    return _succeeded(job, fitted, finished)


def held_out_of(job: Job, export: ExportJob) -> HeldOut | None:
    """Return what the result is measured on, if the dataset holds anything out."""
    if not len(job.prepared.validation):
        return None
    return held_out(job.prepared, export.tokenizer, job.config.evaluation)


def export_job(job: Job) -> ExportJob:
    """Return what the export of a run depends on."""
    return ExportJob(
        config=job.config,
        base=job.base,
        work=job.folders.work,
        tokenizer=load_tokenizer(job.base),
        precision=job.resolved.precision,
        lineage=Lineage(
            base_name=base_name(job.config),
            # A model of the hub lies in a folder that is named by its commit.
            base_revision=None if job.config.model.hugging_face is None else job.base.name,
            base_digest=job.base_digest,
            method=job.config.method,
            dataset_digest=job.prepared.dataset_digest,
            seed=job.resolved.seed,
            settings={"asked": asked_settings(job.config), "resolved": asdict(job.resolved)},
            versions=library_versions(),
            parent=job.parent,
        ),
        initial_adapter=job.folders.initial_adapter if job.resolved.init_weights != "default" else None,
    )


def reports_of(job_work: Path, output: Path) -> dict[Any, str]:
    """Return the reports that are there, as paths below the output folder where they lie in it."""
    found = {name: job_work / file for name, file in _REPORTS.items()}
    return {
        name: str(path.relative_to(output) if path.is_relative_to(output) else path)
        for name, path in found.items()
        if path.is_file()
    }


def _result(fitted: Fitted, finished: Finished) -> RunResult:
    report = None if finished.comparison is None else finished.comparison.report
    return RunResult(fitted.step, finished.exported[0].digest, report, finished.missed)


def _succeeded(job: Job, fitted: Fitted, finished: Finished) -> Outcome:
    released = finished.exported[0]
    report = None if finished.comparison is None else finished.comparison.report
    return Outcome(
        outcome="succeeded",
        adapter=ReleasedAdapter(
            name=job.config.output.adapter_name,
            digest=released.digest,
            path=str(released.folder.relative_to(job.folders.output.resolve())),
        ),
        metrics={**fitted.metrics, **reported_metrics(report)},
        gates=() if report is None else report.gates,
        resolved=chosen_settings(job.config, job.resolved, job.prepared.row_format),
        step=fitted.step,
        total_steps=fitted.total_steps,
        checkpoint_step=fitted.step,
        save_seconds=fitted.save_seconds,
        micro_batch_size=fitted.micro_batch_size,
        reports=reports_of(job.folders.work, job.folders.output),
    )
