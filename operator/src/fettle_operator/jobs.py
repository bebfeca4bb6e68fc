"""Jobs that the operator made, with their pods: which attempt each one is, and whether it is over. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from fettle_operator.ownership import is_owned_by
from fettle_operator.resources import Manifest

__all__ = ["Attempt", "attempts_of", "ending_of", "is_live", "is_waiting", "last_words"]

_OVER = frozenset({"Succeeded", "Failed"})


@dataclass(frozen=True)
class Attempt:
    """One Job and its pods."""

    number: int
    job: Manifest
    pods: tuple[Manifest, ...]

    @property
    def pod(self) -> Manifest | None:
        """Return the newest pod."""
        return max(self.pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)

    @property
    def ended_at(self) -> datetime | None:
        """Return when the Job ended, one way or the other; None while it has not."""
        ended = ending_of(self.job)
        return None if ended is None else datetime.fromisoformat(ended["lastTransitionTime"])


def attempts_of(owner_uid: str, jobs: Iterable[Manifest], pods: Sequence[Manifest]) -> tuple[Attempt, ...]:
    """Return the attempts in order. Labels only narrow the search; the owner's UID decides."""
    owned = [job for job in jobs if is_owned_by(job, owner_uid)]
    attempts = [Attempt(_number(job), job, _pods_of(job, pods)) for job in owned]
    return tuple(sorted(attempts, key=lambda attempt: attempt.number))


def ending_of(job: Manifest) -> Manifest | None:
    """Return the condition that tells of the Job's end; None while it has none."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] in {"Complete", "Failed"} and condition["status"] == "True":
            ending: Manifest = condition
            return ending
    return None


def is_live(pod: Manifest) -> bool:
    """Tell whether a process of the pod may still run: its phase has the last word, not its deletion."""
    return pod.get("status", {}).get("phase", "Pending") not in _OVER


def is_waiting(pod: Manifest) -> bool:
    """Tell whether the pod has not begun to run."""
    return bool(pod.get("status", {}).get("phase", "Pending") == "Pending")


def last_words(attempt: Attempt) -> str:
    """Return why an attempt ended whose container can no longer say so: evicted, deleted, past its deadline."""
    tells = attempt.pod.get("status", {}) if attempt.pod else {}
    told = tells or ending_of(attempt.job) or {}
    words = [told.get("reason"), told.get("message")]
    return ": ".join(word for word in words if word) or "its pod is gone"


def _number(job: Manifest) -> int:
    """Read the attempt from the Job's name: unlike its labels, nobody can change that."""
    text = job["metadata"]["name"].rpartition("-")[2]
    return int(text) if text.isdigit() else 0


def _pods_of(job: Manifest, pods: Sequence[Manifest]) -> tuple[Manifest, ...]:
    return tuple(pod for pod in pods if is_owned_by(pod, job["metadata"]["uid"]))
