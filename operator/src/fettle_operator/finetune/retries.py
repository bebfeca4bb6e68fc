"""What follows the end of an attempt: one table, by its cause. Pure."""

from dataclasses import dataclass
from typing import Literal

from fettle_operator.finetune.endings import Cause
from fettle_operator.reasons import Reason

__all__ = ["HALVINGS_MAX", "POLICY", "Decision", "Policy", "Spent", "decide", "halved", "pausing"]

HALVINGS_MAX = 3
AttemptOutcome = Literal["Succeeded", "Stopped", "OutOfMemory", "Refused", "GateMissed", "Failed"]


@dataclass(frozen=True)
class Policy:
    """What a cause means."""

    outcome: AttemptOutcome
    retried: bool
    counts: bool = False
    """Whether it uses up one of `scheduling.retries`."""
    halves: bool = False
    """Whether the next attempt holds half as many rows in memory."""
    verdict: Reason | None = None
    """The reason with which the job ends where nothing follows."""


POLICY: dict[Cause, Policy] = {
    Cause.DONE: Policy("Succeeded", retried=False),
    Cause.WRONG_INPUT: Policy("Refused", retried=False, verdict=Reason.INPUT_REFUSED),
    Cause.GATE_MISSED: Policy("GateMissed", retried=False, verdict=Reason.GATE_MISSED),
    Cause.OUT_OF_MEMORY: Policy("OutOfMemory", retried=True, halves=True, verdict=Reason.OUT_OF_MEMORY),
    Cause.DISRUPTED: Policy("Stopped", retried=True),
    Cause.STOPPED: Policy("Stopped", retried=True),
    Cause.POD_LOST: Policy("Stopped", retried=True),
    Cause.STORAGE_FULL: Policy("Failed", retried=True, counts=True, verdict=Reason.STORAGE_FULL),
    Cause.NO_WORDS: Policy("Failed", retried=True, counts=True, verdict=Reason.RETRIES_EXHAUSTED),
    Cause.BROKEN: Policy("Failed", retried=True, counts=True, verdict=Reason.RETRIES_EXHAUSTED),
}


@dataclass(frozen=True)
class Spent:
    """What a job has used up so far, the ended attempt included."""

    failed: int
    """Attempts that count."""
    halvings: int
    """How often the micro-batch was halved already."""
    micro_batch: int | None
    """The one that the ended attempt ran with, if known."""


@dataclass(frozen=True)
class Decision:
    """What comes next."""

    verdict: Reason | None
    """None: another attempt follows."""
    message: str


def decide(cause: Cause, told: str, spent: Spent, retries: int) -> Decision:
    """Return whether another attempt follows."""
    policy = POLICY[cause]
    if not policy.retried:
        return Decision(policy.verdict or Reason.SUCCEEDED, told)
    if policy.halves:
        return _smaller(told, spent)
    if policy.counts and spent.failed > retries:
        return Decision(
            policy.verdict,
            f"{spent.failed} attempts failed; the last one: {told.rstrip('.')}. "
            "Checkpoints and reports are kept in the store; correct the cause and create the job again",
        )
    counted = (
        f"attempt {spent.failed} of {retries + 1} failed" if policy.counts else "the attempt was cut short"
    )
    return Decision(None, f"{counted}: {told}")


def pausing(word: str) -> Reason:
    """Return why there is a pause before the next attempt; `word` is the ended one's reason."""
    return Reason.STORAGE_FULL if word == Reason.STORAGE_FULL else Reason.RETRYING


def halved(micro_batch: int) -> int:
    """Return the largest divisor that is at most half: whatever the batch is a multiple of, it stays one."""
    return next(size for size in range(micro_batch // 2, 0, -1) if micro_batch % size == 0)


def _smaller(told: str, spent: Spent) -> Decision:
    advice = "give it more memory, a shorter training.maxLength, or method qlora"
    if spent.micro_batch == 1:
        return Decision(
            Reason.OUT_OF_MEMORY, f"even a micro-batch of 1 does not fit: {told.rstrip('.')}; {advice}"
        )
    if spent.halvings >= HALVINGS_MAX:
        sentence = f"the micro-batch was halved {HALVINGS_MAX} times and still does not fit: {told.rstrip('.')}; {advice}"
        return Decision(Reason.OUT_OF_MEMORY, sentence)
    return Decision(None, f"out of memory, the next attempt holds fewer rows at a time: {told}")
