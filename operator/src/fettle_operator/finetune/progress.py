"""How far an attempt is: asked of its first pod, not too often, and written down only when it has changed."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from pydantic import ValidationError

from fettle_operator.conditions import timestamp
from fettle_operator.resources import Manifest
from fettle_trainer.config.progress import ProgressReport

__all__ = ["Desk", "ProgressReader", "is_past_training", "progress_fields", "rounded"]

_PERIOD_S = 5.0
_DIGITS = 5
_WRITES_PER_SECOND = 5.0
"""What all progress together may cost the API server."""
_FIELDS = (
    "step",
    "totalSteps",
    "epoch",
    "loss",
    "evalLoss",
    "learningRate",
    "tokensPerSecond",
    "eta",
    "remainingSeconds",
    "summary",
    "updatedAt",
)
_ALWAYS_MOVING = frozenset({"updatedAt", "eta", "remainingSeconds"})


class ProgressReader(Protocol):
    """Asks one pod."""

    async def read(self, address: str) -> bytes | None:
        """Return the document of GET /progress; None when the pod does not answer in time."""
        ...


@dataclass
class _Entry:
    asked_at: datetime
    report: ProgressReport | None


class Desk:
    """Asks for every running job, the less often the more there are. Losing what it remembers costs a question."""

    def __init__(self, reader: ProgressReader) -> None:
        self._reader = reader
        self._entries: dict[str, _Entry] = {}

    @property
    def period_s(self) -> float:
        """Return how often each job is asked about."""
        return max(_PERIOD_S, len(self._entries) / _WRITES_PER_SECOND)

    async def of(self, uid: str, address: str, now: datetime) -> ProgressReport | None:
        """Return what the pod said last; it is asked again when its time has come."""
        entry = self._entries.get(uid)
        if entry is not None and now - entry.asked_at < timedelta(seconds=self.period_s):
            return entry.report
        known = entry.report if entry else None
        self._entries[uid] = _Entry(now, known)
        answer = await self._reader.read(address)
        report = _parsed(answer) or known
        self._entries[uid] = _Entry(now, report)
        return report

    def forget(self, uid: str) -> None:
        """Ask no more about a job."""
        self._entries.pop(uid, None)


def progress_fields(report: ProgressReport | None, before: Manifest) -> Manifest:
    """Return `status.progress`: the same as before unless something moved that people look at."""
    # The process that evaluates after the training knows nothing of the steps.
    if report is None or report.total_steps is None:
        return before
    told = report.model_dump(mode="json", by_alias=True, exclude_none=True)
    fields: Manifest = {name: rounded(told[name]) for name in _FIELDS if name in told}
    if "updatedAt" in fields and report.updated_at is not None:
        fields["updatedAt"] = timestamp(report.updated_at)
    still = all(fields.get(name) == before.get(name) for name in _FIELDS if name not in _ALWAYS_MOVING)
    return before if still and before else fields


def rounded(value: Any) -> Any:
    """Return a number with as many digits as people read in a column."""
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def is_past_training(report: ProgressReport | None, known: Manifest) -> bool:
    """Tell whether the steps are over and the result is being exported and measured.

    Over several pods a fresh process does that, and until it answers what is known of the steps has to do.
    """
    if report is None or (report.phase == "preparing" and report.total_steps is None):
        return 0 < int(known.get("totalSteps", 0)) <= int(known.get("step", 0))
    if report.phase in {"exporting", "done"}:
        return True
    over = report.total_steps is None or report.step >= report.total_steps
    return report.phase == "evaluating" and over


def _parsed(answer: bytes | None) -> ProgressReport | None:
    """Read the answer; one that is no progress is no reason to fail anything."""
    if answer is None:
        return None
    try:
        return ProgressReport.model_validate_json(answer)
    except ValidationError:
        return None
