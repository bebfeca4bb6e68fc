"""The outcome of a run that did not succeed, from whatever ended it."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import ValidationError

from fettle_trainer import strict_json
from fettle_trainer.config.evaluation_report import EVALUATION_NAME, EvaluationReport
from fettle_trainer.config.exit_codes import ExitCode
from fettle_trainer.config.outcome import Outcome, OutcomeError
from fettle_trainer.durable.checkpoints import CheckpointStore
from fettle_trainer.durable.failures import is_lost_peer, is_storage_full, lost_peer, storage_full
from fettle_trainer.durable.verdict import Verdict
from fettle_trainer.errors import RunError
from fettle_trainer.export.lineage import reported_metrics
from fettle_trainer.strict_json import StrictJsonError
from fettle_trainer.train.folders import run_folders

if TYPE_CHECKING:
    from fettle_trainer.config.run import RunConfig

Ending = Literal["failed", "gateMissed", "stopped", "outOfMemory"]
_ENDINGS: Final[dict[int, Ending]] = {
    ExitCode.GATE_MISSED: "gateMissed",
    ExitCode.STOPPED: "stopped",
    ExitCode.OUT_OF_MEMORY: "outOfMemory",
}
_SENTENCE: Final = 2048


def verdict_of(error: BaseException) -> Verdict:
    """Return how a run ends that this error has ended; one that nobody foresaw may not come again."""
    if is_storage_full(error):
        error = storage_full(error)
    elif is_lost_peer(error):
        error = lost_peer()
    if isinstance(error, RunError):
        return Verdict(error.exit_code, error.code, error.message, error.param)
    reason = next(iter(str(error).strip().splitlines()), "")
    return Verdict(ExitCode.INCOMPLETE, "InternalError", f"The run failed: {type(error).__name__}: {reason}")


def failed_outcome(verdict: Verdict, config: RunConfig | None) -> Outcome:
    """Return the outcome, with what the next attempt should know."""
    error = OutcomeError(
        code=_code(verdict.code), message=verdict.message[:_SENTENCE], param=verdict.param[:256]
    )
    return Outcome(
        outcome=_ENDINGS.get(verdict.exit_code, "failed"),
        error=error,
        **({} if config is None else _so_far(config)),
        **(_measured(config) if config is not None and verdict.exit_code == ExitCode.GATE_MISSED else {}),
    )


def _so_far(config: RunConfig) -> dict[str, Any]:
    """Return how far the run has come, from the files that it has left; it may have left none."""
    folders = run_folders(config.output)
    found: dict[str, Any] = {}
    with suppress(OSError, StrictJsonError, KeyError):
        settings = strict_json.loads(folders.resolved.read_bytes())
        found |= {name: settings[name] for name in ("total_steps", "micro_batch_size")}
        found["resolved"] = settings["chosen"]
    facts = CheckpointStore(folders.checkpoints).newest_facts()
    if facts is not None:
        found |= {"step": facts.step, "checkpoint_step": facts.step, "save_seconds": facts.save_seconds}
    return found


def _measured(config: RunConfig) -> dict[str, Any]:
    """Return what the gates were judged by, from the report that the evaluation has left."""
    try:
        path = run_folders(config.output).work / EVALUATION_NAME
        report = EvaluationReport.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return {}
    return {"metrics": reported_metrics(report), "gates": report.gates}


def _code(code: str) -> str:
    return code if re.fullmatch(r"[A-Z][A-Za-z0-9]{0,62}", code) else "InternalError"
