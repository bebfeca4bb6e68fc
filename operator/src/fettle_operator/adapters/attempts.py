"""Attempts at verification: what each Job found, and whether another one is due. Pure."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import ValidationError

from fettle_operator.engine.backoff import doubled
from fettle_operator.jobs import Attempt, last_words
from fettle_operator.pods import termination_of
from fettle_operator.reasons import Reason
from fettle_operator.settings import Backoff
from fettle_trainer.config.verification import RefusalCode, VerificationReport, VerifiedAdapter

__all__ = [
    "ABSENCE",
    "Absent",
    "Broken",
    "Finding",
    "Refused",
    "Verified",
    "finding_of",
    "retry_at",
]

ABSENCE = Backoff(initial_seconds=2, max_seconds=300)
"""The pace of looking for files that are not there yet: soon while they are being copied, rarely after hours."""

_VERIFIED, _REFUSED = 0, 2


@dataclass(frozen=True)
class Verified:
    """The adapter is sound."""

    adapter: VerifiedAdapter


@dataclass(frozen=True)
class Refused:
    """The adapter is wrong; looking again would find the same."""

    message: str


@dataclass(frozen=True)
class Broken:
    """The attempt failed for a reason that says nothing about the adapter."""

    reason: Reason
    message: str


@dataclass(frozen=True)
class Absent:
    """Nothing lies at the path. It may still be on its way: everything of an adapter can be applied at once."""


Finding = Verified | Refused | Broken | Absent


def finding_of(attempt: Attempt) -> Finding | None:
    """Return what the attempt found; None while it is under way."""
    ending = termination_of(attempt.pod) if attempt.pod else None
    reported = (
        _reported(ending.exit_code, ending.message)
        if ending is not None and ending.exit_code in {_VERIFIED, _REFUSED}
        else None
    )
    if isinstance(reported, Verified | Refused):
        return reported
    # Any other finding is followed by another attempt, which must not run beside this one.
    if attempt.ended_at is None:
        return None
    if reported is not None:
        return reported
    if ending is None:
        return _lost(attempt)
    if ending.out_of_memory:
        return Broken(
            Reason.OUT_OF_MEMORY,
            "the verifier used more memory than its limit; "
            "raise verifier.resources.limits.memory in the operator's configuration",
        )
    return Broken(
        Reason.RETRYING, _complaint(ending.message) or f"the verifier ended with code {ending.exit_code}"
    )


def retry_at(attempt: Attempt, backoff: Backoff) -> datetime:
    """Return when the next attempt is due after this one broke."""
    pause_s = doubled(backoff, attempt.number)
    ended_at = attempt.ended_at
    assert ended_at is not None, "only an attempt that ended is followed by another"  # noqa: S101 - a bug of ours
    return ended_at + timedelta(seconds=pause_s)


def _reported(exit_code: int, message: str) -> Finding:
    try:
        report = VerificationReport.model_validate_json(message)
    except ValidationError:
        return Broken(
            Reason.RETRYING, f"the verifier ended with code {exit_code} but left no readable report"
        )
    if exit_code == _VERIFIED and report.adapter is not None:
        return Verified(report.adapter)
    if exit_code == _REFUSED and report.outcome == "refused" and report.error is not None:
        if report.error.code == RefusalCode.DIRECTORY_MISSING:
            return Absent()
        where = f"{report.error.file}: " if report.error.file else ""
        return Refused(f"{where}{report.error.message} ({report.error.code})")
    return Broken(
        Reason.RETRYING, f"the verifier ended with code {exit_code} but reported {report.outcome!r}"
    )


def _lost(attempt: Attempt) -> Broken:
    return Broken(Reason.RETRYING, f"the verifier's pod left no report ({last_words(attempt)})")


def _complaint(message: str) -> str:
    try:
        report = VerificationReport.model_validate_json(message)
    except ValidationError:
        return ""
    return report.error.message if report.error else ""
