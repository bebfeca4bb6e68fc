"""The attempts of a job, as its status keeps them: what was begun, how it ended, what it cost. Pure.

Status is where attempts are counted. Children come and go (a TTL, a hand, a queue), and no count may go with them.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from fettle_operator.conditions import timestamp
from fettle_operator.finetune.endings import Cause, Ending
from fettle_operator.finetune.retries import POLICY, halved
from fettle_operator.resources import Manifest

__all__ = ["Ledger", "Shape"]

_LISTED_MAX = 16
_GRACE_LEAST_S = 60
_GRACE_MOST_S = 3600
_SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Shape:
    """What an attempt takes up while it is active."""

    gpus: int
    image: str


@dataclass(frozen=True)
class Ledger:
    """Everything that status tells of attempts."""

    entries: tuple[Manifest, ...] = ()
    count: int = 0
    failed: int = 0
    """Attempts that used up one of `scheduling.retries`."""
    halvings: int = 0
    active_s: int = 0
    gpu_s: int = 0
    lost_s: int = 0

    @classmethod
    def read(cls, status: Manifest) -> "Ledger":
        """Return what status says."""
        return cls(
            entries=tuple(status.get("attempts", [])),
            count=status.get("attemptCount", 0),
            failed=status.get("failedAttempts", 0),
            halvings=status.get("memoryHalvings", 0),
            active_s=status.get("activeSeconds", 0),
            gpu_s=status.get("gpuSeconds", 0),
            lost_s=status.get("lostSeconds", 0),
        )

    @property
    def current(self) -> Manifest | None:
        """Return the attempt that has begun and not ended."""
        last = self.last
        return last if last is not None and last["outcome"] == "Running" else None

    @property
    def last(self) -> Manifest | None:
        """Return the newest attempt."""
        return self.entries[-1] if self.entries else None

    @property
    def next_micro_batch(self) -> int | None:
        """Return what the next attempt's micro-batch is set to; None while that is left to the spec."""
        if self.last is None or not self.halvings:
            return None
        before: int | None = self.last.get("microBatchSize")
        if self.last["outcome"] != "OutOfMemory":
            return before
        # Killed by the kernel it could not say which one it had: the smallest is the safe guess.
        return 1 if before is None else halved(before)

    @property
    def grace_s(self) -> int:
        """Return how long the next attempt may take to save, by how long saving has taken."""
        measured = max((entry.get("saveSeconds", 0) for entry in self.entries), default=0)
        return min(max(_GRACE_LEAST_S, math.ceil(2 * measured) + _GRACE_LEAST_S // 2), _GRACE_MOST_S)

    def status(self) -> Manifest:
        """Return the fields of status."""
        if not self.count:
            return {}
        hours = {"gpuHours": f"{self.gpu_s / _SECONDS_PER_HOUR:.2f}"} if self.gpu_s else {}
        return {
            "attempts": list(self.entries),
            "attemptCount": self.count,
            "failedAttempts": self.failed,
            "memoryHalvings": self.halvings,
            "activeSeconds": self.active_s,
            "gpuSeconds": self.gpu_s,
            "lostSeconds": self.lost_s,
            **hours,
        }

    def active_at(self, now: datetime) -> float:
        """Return for how long the job has been active, over all attempts, without its pauses."""
        running = _seconds(self.current.get("startTime"), now) if self.current else 0
        return self.active_s + running

    def opened(self, number: int, job_name: str, micro_batch: int | None) -> "Ledger":
        """Begin an attempt. Its Job is made afterwards: what was not begun here never runs."""
        entry: Manifest = {"number": number, "jobName": job_name, "outcome": "Running"}
        if micro_batch is not None:
            entry["microBatchSize"] = micro_batch
        if self.last is None:
            entry["firstStep"] = 0
        elif "checkpointStep" in self.last:
            entry["firstStep"] = self.last["checkpointStep"]
        return replace(self, entries=(*self.entries, entry)[-_LISTED_MAX:], count=number)

    def adopting(self, jobs: Iterable[tuple[int, str]]) -> "Ledger":
        """Take in attempts whose Jobs exist but that status does not know, because somebody erased it."""
        newest = self.last["number"] if self.last else 0
        unknown = [(number, name) for number, name in sorted(jobs) if number > newest]
        found = self
        for number, name in unknown:
            if found is not self and found.current is not None:
                lost = {**found.current, "outcome": "Stopped", "message": "its record was erased from status"}
                found = found._with_current(lost)
            found = found.opened(number, name, None)
        return found

    def started(self, began: datetime | None, nodes: Sequence[str], shape: Shape) -> "Ledger":
        """Record that the attempt's processes run, and where; what is known already stays."""
        entry = self.current
        if entry is None or began is None or "startTime" in entry:
            return self
        return self._with_current(
            {**entry, "startTime": timestamp(began), "nodes": sorted(set(nodes)), "image": shape.image}
        )

    def resumed_at(self, step: int) -> "Ledger":
        """Record where the attempt really went on; its predecessor may have been cut off before it could say so."""
        entry = self.current
        if entry is None or entry.get("firstStep") == step:
            return self
        known = self._with_current({**entry, "firstStep": step})
        if len(self.entries) < 2:
            return known
        before = {**self.entries[-2], "checkpointStep": step}
        before["lastStep"] = max(before.get("lastStep", step), step)
        before["lostSeconds"] = _lost(before.get("seconds", 0), before)
        lost = self.lost_s - self.entries[-2].get("lostSeconds", 0) + before["lostSeconds"]
        return replace(known, entries=(*known.entries[:-2], before, known.entries[-1]), lost_s=lost)

    def closed(
        self, ending: Ending, shape: Shape, progress: Manifest, ran_with: int | None = None
    ) -> "Ledger":
        """End the attempt; `ran_with` is its micro-batch, if that is known."""
        entry = self.current
        if entry is None:
            return self
        policy = POLICY[ending.cause]
        seconds = _seconds(entry.get("startTime"), ending.ended_at)
        steps = _steps(entry, ending, progress)
        lost = 0 if ending.cause in _COMPLETE else _lost(seconds, steps)
        known: dict[str, Any] = {
            **entry,
            **steps,
            "outcome": policy.outcome,
            "reason": ending.code or ending.cause.value,
            "message": ending.message,
            "exitCode": ending.exit_code,
            "seconds": seconds,
            "lostSeconds": lost,
            "saveSeconds": ending.outcome.save_seconds if ending.outcome else None,
            "completionTime": timestamp(ending.ended_at),
            "microBatchSize": ran_with,
        }
        return replace(
            self._with_current({key: value for key, value in known.items() if value not in (None, "")}),
            failed=self.failed + policy.counts,
            halvings=self.halvings + policy.halves,
            active_s=self.active_s + seconds,
            gpu_s=self.gpu_s + seconds * shape.gpus,
            lost_s=self.lost_s + lost,
        )

    def _with_current(self, entry: Manifest) -> "Ledger":
        return replace(self, entries=(*self.entries[:-1], entry))


_COMPLETE = frozenset({Cause.DONE, Cause.GATE_MISSED, Cause.NO_WORDS})


def _seconds(since: str | None, until: datetime) -> int:
    return max(0, round((until - datetime.fromisoformat(since)).total_seconds())) if since else 0


def _steps(entry: Manifest, ending: Ending, progress: Manifest) -> Manifest:
    """Return first, last and saved step. What an attempt did not say itself, its last progress says."""
    outcome = ending.outcome
    first = entry.get("firstStep", 0)
    reached = progress.get("step", 0)
    # One that was told to stop saves what it has done, whether or not it could still say so.
    silent = reached if ending.cause is Cause.STOPPED else None
    saved = outcome.checkpoint_step if outcome else silent
    last = max(outcome.step if outcome else 0, reached, saved or 0, first)
    steps = {"firstStep": first, "lastStep": last}
    # Outcomes without a checkpoint say that there is none; no outcome says nothing.
    return steps if saved is None and outcome is None else {**steps, "checkpointStep": saved or first}


def _lost(seconds: int, steps: Manifest) -> int:
    """Return the part of the time that went into steps after the last checkpoint."""
    first, last = int(steps.get("firstStep", 0)), int(steps.get("lastStep", 0))
    saved = max(int(steps.get("checkpointStep", first)), first)
    return seconds if last <= first else round(seconds * (last - saved) / (last - first))
