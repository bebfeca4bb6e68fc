"""A report of the check that fits where Kubernetes keeps a container's last words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle_trainer.config.outcome import MAX_OUTCOME_BYTES

if TYPE_CHECKING:
    from fettle_trainer.config.dataset_report import DatasetReport


def brief_report(report: DatasetReport) -> bytes:
    """Return the report as JSON of at most 4 KiB: counts whole, as many findings as fit, errors before warnings."""
    tokens = report.tokens and report.tokens.model_copy(update={"histogram": (), "max_length_reason": ""})
    # Nothing begins on data that is wrong: the room is for what to mend.
    forecast = report.forecast if report.passed else None
    findings = sorted(report.findings, key=lambda finding: finding.severity != "error")
    kept = len(findings)
    while True:
        shortened = report.model_copy(
            update={"files": (), "tokens": tokens, "forecast": forecast, "findings": tuple(findings[:kept])}
        )
        data = shortened.model_dump_json(by_alias=True, exclude_none=True).encode()
        if len(data) <= MAX_OUTCOME_BYTES or kept == 0:
            return data
        kept -= 1
