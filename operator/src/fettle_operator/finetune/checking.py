"""What the check of a job's data found. Pure."""

from dataclasses import dataclass

from pydantic import ValidationError

from fettle_operator.finetune.retries import pausing
from fettle_operator.jobs import Attempt, is_live, last_words
from fettle_operator.pods import termination_of
from fettle_operator.reasons import Reason
from fettle_operator.resources import Manifest
from fettle_trainer.config.dataset_report import DatasetReport, Finding
from fettle_trainer.config.exit_codes import ExitCode
from fettle_trainer.config.outcome import Outcome

__all__ = ["Broken", "Checked", "Rejected", "dataset_facts", "finding_of"]

_LISTED_MAX = 20
_NAMED_MAX = 3


@dataclass(frozen=True)
class Checked:
    """The data can be trained on."""

    report: DatasetReport


@dataclass(frozen=True)
class Rejected:
    """The data or the settings are wrong; looking again would find the same."""

    reason: Reason
    message: str
    report: DatasetReport | None = None


@dataclass(frozen=True)
class Broken:
    """The check could not be completed; that says nothing about the data."""

    reason: Reason
    message: str
    counts: bool = True
    """Whether it uses up a retry: what the cluster took away does not."""


def finding_of(attempt: Attempt) -> Checked | Rejected | Broken | None:
    """Return what the check found; None while it is under way."""
    ending = termination_of(attempt.pod) if attempt.pod else None
    if ending is not None and ending.exit_code in {ExitCode.DONE, ExitCode.WRONG_INPUT}:
        found = _reported(ending.exit_code, ending.message)
        if not isinstance(found, Broken):
            return found
    # Any other finding is followed by another check, which must not run beside this one.
    if attempt.ended_at is None or any(is_live(pod) for pod in attempt.pods):
        return None
    if ending is None:
        return _lost(attempt)
    if ending.out_of_memory:
        return Broken(Reason.OUT_OF_MEMORY, "the check of the data used more memory than its limit")
    if ending.exit_code in {ExitCode.DONE, ExitCode.WRONG_INPUT}:
        return _reported(ending.exit_code, ending.message)
    disrupted = any(
        condition["type"] == "DisruptionTarget" for pod in attempt.pods for condition in _conditions(pod)
    )
    said = _outcome(ending.message)
    told = said.error.message if said and said.error else f"the check ended with code {ending.exit_code}"
    return Broken(pausing(said.error.code if said and said.error else ""), told, counts=not disrupted)


def dataset_facts(report: DatasetReport) -> Manifest:
    """Return `status.dataset`."""
    tokens = report.tokens
    facts: Manifest = {
        "rows": report.rows,
        "validationRows": report.validation_rows,
        "badRows": report.bad_rows,
        "tokens": tokens.tokens if tokens else None,
        "trainedTokenShare": tokens.trained_token_share if tokens else None,
        "dropped": tokens.dropped if tokens else None,
        "truncated": tokens.truncated if tokens else None,
        "digest": report.digest,
        "findings": [_fact(finding) for finding in report.findings[:_LISTED_MAX]],
    }
    return {key: value for key, value in facts.items() if value not in (None, [])}


def _reported(exit_code: int, message: str) -> Checked | Rejected | Broken:
    try:
        report = DatasetReport.model_validate_json(message)
    except ValidationError:
        said = _outcome(message)
        if exit_code == ExitCode.WRONG_INPUT and said is not None and said.error is not None:
            return Rejected(Reason.INPUT_REFUSED, said.error.message)
        return Broken(Reason.RETRYING, f"the check ended with code {exit_code} but left no readable report")
    if report.passed:
        return Checked(report)
    return Rejected(Reason.DATASET_INVALID, _complaint(report), report)


def _complaint(report: DatasetReport) -> str:
    """Return the first errors with file and line, and how many more there are."""
    errors = [finding for finding in report.findings if finding.severity == "error"]
    named = "; ".join(_sentence(finding) for finding in errors[:_NAMED_MAX])
    more = sum(report.counts.values()) - min(len(errors), _NAMED_MAX)
    bad = (
        f" ({report.bad_rows} bad rows; {more} more findings in status.dataset and the report)"
        if more > 0
        else ""
    )
    return f"{named or 'the data cannot be trained on'}{bad}"


def _sentence(finding: Finding) -> str:
    place = ":".join(str(part) for part in (finding.file, finding.line) if part)
    field = f"{finding.field}: " if finding.field else ""
    return (
        f"{place}: {field}{finding.message} ({finding.code})"
        if place
        else f"{finding.message} ({finding.code})"
    )


def _fact(finding: Finding) -> Manifest:
    fact: Manifest = {
        "code": finding.code.value,
        "message": finding.message,
        "file": finding.file,
        "line": finding.line,
        "field": finding.field,
    }
    return {key: value for key, value in fact.items() if value not in (None, "")}


def _outcome(message: str) -> Outcome | None:
    try:
        return Outcome.model_validate_json(message)
    except ValidationError:
        return None


def _lost(attempt: Attempt) -> Broken:
    sentence = f"the check's pod left no report ({last_words(attempt)})"
    return Broken(Reason.RETRYING, sentence, counts=False)


def _conditions(pod: Manifest) -> list[Manifest]:
    found: list[Manifest] = pod.get("status", {}).get("conditions", [])
    return found
