"""What there is of a job: its Jobs and their pods, told apart by owner and name."""

import asyncio
from dataclasses import dataclass

from fettle_operator.cluster.port import Cluster
from fettle_operator.finetune.children import step_of
from fettle_operator.jobs import Attempt, attempts_of, is_live
from fettle_operator.labels import COMPONENT, OWNER_UID, TRAINER
from fettle_operator.resources import JOBS, PODS, Manifest

__all__ = ["World", "observe"]


@dataclass(frozen=True)
class World:
    """The children that run."""

    checks: tuple[Attempt, ...]
    trains: tuple[Attempt, ...]
    pods: tuple[Manifest, ...]

    @property
    def train_jobs(self) -> tuple[tuple[int, str], ...]:
        """Return number and name of every attempt that has a Job."""
        return tuple((attempt.number, attempt.job["metadata"]["name"]) for attempt in self.trains)

    def train(self, number: int) -> Attempt | None:
        """Return the Job of an attempt; None when there is none."""
        return next((attempt for attempt in self.trains if attempt.number == number), None)

    @property
    def training(self) -> tuple[str, ...]:
        """Return the names of all pods that may still write into the store, whatever became of their Jobs."""
        return tuple(
            pod["metadata"]["name"]
            for pod in self.pods
            if pod["metadata"].get("labels", {}).get(COMPONENT) == TRAINER and is_live(pod)
        )


async def observe(cluster: Cluster, live: Manifest) -> World:
    """Read the job's children from the API server."""
    namespace, uid = live["metadata"]["namespace"], live["metadata"]["uid"]
    jobs, pods = await asyncio.gather(
        cluster.list(JOBS, namespace, {OWNER_UID: uid}), cluster.list(PODS, namespace, {OWNER_UID: uid})
    )
    attempts = attempts_of(uid, jobs, pods)
    return World(
        checks=tuple(attempt for attempt in attempts if step_of(live, attempt.job) == "check"),
        trains=tuple(attempt for attempt in attempts if step_of(live, attempt.job) == "train"),
        pods=tuple(pods),
    )
