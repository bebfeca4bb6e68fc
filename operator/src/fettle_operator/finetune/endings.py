"""How an attempt ended: what its Job and pods say, brought to one cause. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pydantic import ValidationError

from fettle_operator.jobs import Attempt, ending_of, is_live
from fettle_operator.pods import Termination, termination_of
from fettle_operator.resources import Manifest
from fettle_trainer.config.exit_codes import ExitCode
from fettle_trainer.config.outcome import Outcome

__all__ = ["Cause", "Ending", "ending_of_attempt", "index_of", "last_words", "started_at"]

_INDEX = "batch.kubernetes.io/job-completion-index"
_GONE_REASONS = frozenset({"Evicted", "NodeLost", "NodeShutdown", "Shutdown", "Terminated", "Preempting"})
_MESSAGE_MAX = 512


class Cause(StrEnum):
    """Why an attempt is over; the words stand in `status.attempts[].reason`."""

    DONE = "Done"
    WRONG_INPUT = "WrongInput"
    GATE_MISSED = "GateMissed"
    OUT_OF_MEMORY = "OutOfMemory"
    DISRUPTED = "Disrupted"
    """The cluster took a pod away: preemption, eviction, drain, a lost node."""
    STOPPED = "Stopped"
    """It was told to stop, and saved."""
    POD_LOST = "PodLost"
    """A pod is gone and nobody can say how it ended."""
    STORAGE_FULL = "StorageFull"
    NO_WORDS = "NoWords"
    """It ended well but did not leave word of what came out."""
    BROKEN = "Broken"


@dataclass(frozen=True)
class Ending:
    """The end of one attempt."""

    cause: Cause
    message: str
    exit_code: int | None
    outcome: Outcome | None
    """What the first pod said last, if it said anything."""
    ended_at: datetime
    code: str = ""
    """The trainer's own word for what went wrong."""


@dataclass(frozen=True)
class _PodEnd:
    pod: Manifest
    termination: Termination | None
    outcome: Outcome | None

    @property
    def exit_code(self) -> int | None:
        return self.termination.exit_code if self.termination else None

    @property
    def code(self) -> str:
        return self.outcome.error.code if self.outcome is not None and self.outcome.error is not None else ""

    @property
    def evicted(self) -> bool:
        status = self.pod.get("status", {})
        targeted = any(
            condition["type"] == "DisruptionTarget" and condition["status"] == "True"
            for condition in status.get("conditions", [])
        )
        return targeted or status.get("reason") in _GONE_REASONS

    @property
    def told(self) -> str:
        """Return the pod's own sentence, its trainer's before its node's."""
        if self.outcome is not None and self.outcome.error is not None:
            return self.outcome.error.message
        status = self.pod.get("status", {})
        disruption: Manifest = next(
            (each for each in status.get("conditions", []) if each["type"] == "DisruptionTarget"), {}
        )
        return str(disruption.get("message") or status.get("message") or "")


def ending_of_attempt(attempt: Attempt) -> Ending | None:
    """Return how the attempt ended; None while a process of it may still run."""
    ended_at, condition = attempt.ended_at, ending_of(attempt.job)
    if ended_at is None or condition is None or any(is_live(pod) for pod in attempt.pods):
        return None
    ends = [_PodEnd(pod, termination_of(pod), last_words(pod)) for pod in attempt.pods]
    first = next((end for end in ends if index_of(end.pod) == 0), None)
    cause, speaker = _cause(ends, first, int(attempt.job["spec"]["completions"]), condition["type"])
    outcome = first.outcome if first else None
    if speaker is not None and speaker.outcome is not None and speaker.outcome.error is not None:
        outcome = speaker.outcome
    error = outcome.error if outcome else None
    return Ending(
        cause=cause,
        message=(speaker.told if speaker else "")[:_MESSAGE_MAX] or _SENTENCES.get(cause, ""),
        exit_code=speaker.exit_code if speaker else None,
        outcome=outcome,
        ended_at=ended_at,
        code=error.code if error else "",
    )


def last_words(pod: Manifest) -> Outcome | None:
    """Return the outcome that the trainer left as its termination message; None when it left none."""
    termination = termination_of(pod)
    try:
        return Outcome.model_validate_json(termination.message) if termination else None
    except ValidationError:
        return None


def started_at(pods: Sequence[Manifest]) -> datetime | None:
    """Return when the first container began to run."""
    moments = [
        moment
        for pod in pods
        for container in pod.get("status", {}).get("containerStatuses", [])
        for state in (container.get("state", {}),)
        if (moment := (state.get("running") or state.get("terminated") or {}).get("startedAt"))
    ]
    return min((datetime.fromisoformat(moment) for moment in moments), default=None)


def index_of(pod: Manifest) -> int:
    """Return which of the attempt's pods it is; the first one speaks for all."""
    metadata = pod["metadata"]
    told = (
        (metadata.get("annotations") or {}).get(_INDEX) or (metadata.get("labels") or {}).get(_INDEX) or "0"
    )
    return int(told) if told.isdigit() else 0


_SENTENCES = {
    Cause.POD_LOST: "a pod is gone and left no word of how it ended",
    Cause.NO_WORDS: "the trainer ended with code 0 but left no readable outcome",
    Cause.DISRUPTED: "the cluster took a pod away",
    Cause.STOPPED: "a pod was told to stop",
    Cause.OUT_OF_MEMORY: "a process used more memory than there is",
    Cause.BROKEN: "the trainer ended without a word",
}


def _cause(
    ends: Sequence[_PodEnd], first: _PodEnd | None, wanted: int, condition: str
) -> tuple[Cause, _PodEnd | None]:
    """Return the cause and the pod that knows it best: what is wrong for good before what may pass."""
    if condition == "Complete":
        done = first is not None and first.outcome is not None and first.outcome.outcome == "succeeded"
        return (Cause.DONE if done else Cause.NO_WORDS), first
    for cause, applies in _IN_ORDER:
        if speaker := _earliest(end for end in ends if applies(end)):
            return cause, speaker
    if len(ends) < wanted:
        return Cause.POD_LOST, None
    failed = _earliest(end for end in ends if end.exit_code != 0)
    return Cause.BROKEN, failed or first


_IN_ORDER: tuple[tuple[Cause, Callable[[_PodEnd], bool]], ...] = (
    (Cause.WRONG_INPUT, lambda end: end.exit_code == ExitCode.WRONG_INPUT and not end.evicted),
    (Cause.GATE_MISSED, lambda end: end.exit_code == ExitCode.GATE_MISSED and not end.evicted),
    (
        Cause.OUT_OF_MEMORY,
        lambda end: (
            end.exit_code == ExitCode.OUT_OF_MEMORY
            or (end.termination is not None and end.termination.out_of_memory)
        ),
    ),
    (Cause.DISRUPTED, lambda end: end.evicted),
    (Cause.STOPPED, lambda end: end.exit_code == ExitCode.STOPPED),
    (Cause.STORAGE_FULL, lambda end: end.code == Cause.STORAGE_FULL),
)


def _earliest(ends: Iterable[_PodEnd]) -> _PodEnd | None:
    return min(ends, key=lambda end: (_finished(end.pod) or "~", index_of(end.pod)), default=None)


def _finished(pod: Manifest) -> str:
    for container in pod.get("status", {}).get("containerStatuses", []):
        if ended := container.get("state", {}).get("terminated"):
            return str(ended.get("finishedAt") or "")
    return ""
