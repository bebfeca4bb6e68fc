"""The check of a job's data: a Job without a GPU, before anything else is asked for."""

from datetime import datetime

from fettle_operator.cluster.port import Cluster
from fettle_operator.engine.report import Report
from fettle_operator.finetune import assess
from fettle_operator.finetune.assess import State
from fettle_operator.finetune.checking import Broken, Rejected, dataset_facts, finding_of
from fettle_operator.finetune.desired import Run, check_job, forecast_for, is_queued
from fettle_operator.finetune.preparation import Preparation
from fettle_operator.finetune.timing import due_at
from fettle_operator.finetune.world import World
from fettle_operator.jobs import Attempt, is_waiting
from fettle_operator.lookout import Lookout
from fettle_operator.owned import create, repair_job
from fettle_operator.pods import Obstacle
from fettle_operator.reasons import Reason
from fettle_operator.resources import JOBS
from fettle_operator.settings import Backoff

__all__ = ["Checks"]


class Checks:
    """Brings the check of one job forward."""

    def __init__(
        self, cluster: Cluster, lookout: Lookout, backoff: Backoff, preparation: Preparation, run: Run
    ) -> None:
        self._cluster = cluster
        self._lookout = lookout
        self._backoff = backoff
        self._preparation = preparation
        self._run = run

    async def go_on(self, world: World, state: State, now: datetime) -> Report | None:
        """Return what to report; None when the data is good, which `state` then knows."""
        if not world.checks:
            return await self._begin(1, state, now)
        latest = world.checks[-1]
        finding = finding_of(latest)
        if finding is None:
            return await self._under_way(latest, state, now)
        if isinstance(finding, Rejected):
            state.put(dataset=dataset_facts(finding.report) if finding.report else None)
            return assess.finished(state, finding.reason, finding.message, now)
        if not isinstance(finding, Broken):
            assess.checked(state, finding.report, hardware_known=forecast_for(self._run.profile) is not None)
            return None
        return await self._again(world, latest, finding, state, now)

    async def _begin(self, number: int, state: State, now: datetime) -> Report:
        if obstacle := await self._preparation.complete(self._run, is_first=number == 1):
            return assess.waiting(state, "Pending", obstacle, self._preparation.look_again_s(now))
        await create(self._cluster, JOBS, check_job(self._run, number), self._run.live)
        return _validating(state)

    async def _under_way(self, latest: Attempt, state: State, now: datetime) -> Report:
        if not is_queued(self._run.spec):
            await repair_job(self._cluster, JOBS, check_job(self._run, latest.number), latest.job)
        runs = latest.pod is not None and not is_waiting(latest.pod)
        look_in_s = None if runs else self._lookout.again_in_s(latest.job, now)
        if obstacle := await self._lookout.obstacle_of(latest, now):
            return assess.waiting(state, "Validating", obstacle, look_in_s)
        return _validating(state, look_in_s)

    async def _again(
        self, world: World, latest: Attempt, finding: Broken, state: State, now: datetime
    ) -> Report:
        retries = self._run.spec["scheduling"]["retries"]
        found = (finding_of(attempt) for attempt in world.checks)
        broken = sum(isinstance(each, Broken) and each.counts for each in found)
        if finding.counts and broken > retries:
            sentence = f"{broken} checks of the data broke; the last one: {finding.message}"
            full = finding.reason is Reason.STORAGE_FULL
            return assess.finished(state, finding.reason if full else Reason.RETRIES_EXHAUSTED, sentence, now)
        ended_at = latest.ended_at or now
        due = due_at(ended_at, latest.number, self._backoff)
        if now < due:
            sentence = f"the check of the data broke: {finding.message}"
            obstacle = Obstacle(finding.reason, sentence)
            return assess.waiting(state, "Validating", obstacle, (due - now).total_seconds())
        return await self._begin(latest.number + 1, state, now)


def _validating(state: State, again_in_s: float | None = None) -> Report:
    return assess.under_way(
        state, "Validating", Reason.VALIDATING, "the data is being read and checked", again_in_s
    )
