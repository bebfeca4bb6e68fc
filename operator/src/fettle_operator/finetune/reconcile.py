"""The reconcile function of FineTuneJob: what is looked at, in which order, and what is done about it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Protocol

from fettle_operator.api.base import InvalidObjectError
from fettle_operator.api.finetunejob import FineTuneJob
from fettle_operator.cluster.port import Cluster
from fettle_operator.engine.report import Report
from fettle_operator.finetune import assess
from fettle_operator.finetune.assess import State
from fettle_operator.finetune.attempting import Attempting
from fettle_operator.finetune.checks import Checks
from fettle_operator.finetune.preparation import Preparation
from fettle_operator.finetune.progress import Desk
from fettle_operator.finetune.recording import record
from fettle_operator.finetune.support import unsupported
from fettle_operator.finetune.world import World, observe
from fettle_operator.jobs import ending_of
from fettle_operator.lookout import Lookout
from fettle_operator.pods import Obstacle
from fettle_operator.reasons import Reason
from fettle_operator.resources import FINETUNEJOBS, JOBS, Manifest
from fettle_operator.settings import Settings

__all__ = ["FineTuneJobController"]


class Series(Protocol):
    """Where numbers about jobs are shown."""

    def put(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Show what a job's status says."""
        ...


class FineTuneJobController:
    """Takes a job from its data to an Adapter. Its children are owned, so a deletion needs nothing of it."""

    resource = FINETUNEJOBS
    finalizer: str | None = None

    def __init__(self, cluster: Cluster, settings: Settings, desk: Desk, series: Series) -> None:
        self._cluster = cluster
        self._settings = settings
        self._desk = desk
        self._series = series
        self._lookout = Lookout(cluster)

    async def reconcile(self, live: Manifest, now: datetime) -> Report:
        """Bring one job forward and report on it."""
        report = await self._reported(live, now)
        self._series.put(live["metadata"]["namespace"], live["metadata"]["name"], report.status)
        return report

    async def _reported(self, live: Manifest, now: datetime) -> Report:
        metadata, status = live["metadata"], live.get("status") or {}
        over = assess.verdict_in(status)
        if over or "deletionTimestamp" in metadata:
            self._desk.forget(metadata["uid"])
        if "deletionTimestamp" in metadata:
            return assess.settled(status)
        if over:
            return await self._tidied(live, status, now)
        state = State(status)
        try:
            # Status is our own writing, perhaps by another version; only what people wrote is checked.
            job = FineTuneJob.read({key: value for key, value in live.items() if key != "status"})
        except InvalidObjectError as error:
            return assess.refused(state, Reason.INVALID_SPEC, error.problems)
        live = {**live, "spec": job.spec.manifest()}
        if problems := unsupported(live["spec"]):
            return assess.refused(state, Reason.NOT_SUPPORTED, problems)
        try:
            return await self._forward(live, state, now)
        except InvalidObjectError as error:
            return assess.refused(State(status), Reason.INVALID_SPEC, error.problems)

    async def _forward(self, live: Manifest, state: State, now: datetime) -> Report:
        """Do the next thing: the attempt that runs, the result that is there, the data, another attempt."""
        world = await observe(self._cluster, live)
        state.ledger = state.ledger.adopting(world.train_jobs)
        preparation = Preparation(self._cluster, self._lookout, self._settings, live)
        attempting = Attempting(
            self._cluster, self._desk, self._lookout, preparation, state, self._settings.backoff, now
        )
        if state.ledger.current is not None:
            return await attempting.current(live, world)
        await self._end_strays(world)
        if live["spec"]["scheduling"].get("suspend"):
            sentence = "suspended by spec.scheduling.suspend; set it to false to go on"
            return assess.under_way(state, "Suspended", Reason.SUSPENDED, sentence)
        if state.fields.get("adapter"):
            return await record(self._cluster, live, state, await preparation.start(), now)
        run = await preparation.run(state.ledger.next_micro_batch, state.ledger.grace_s)
        if isinstance(run, Obstacle):
            return assess.waiting(state, "Pending", run, preparation.look_again_s(now))
        if not assess.is_checked(state):
            checks = Checks(self._cluster, self._lookout, self._settings.backoff, preparation, run)
            if report := await checks.go_on(world, state, now):
                return report
        return await attempting.next(live, world, run)

    async def _end_strays(self, world: World) -> None:
        """Delete the Jobs of attempts that were ended from here: a suspension, a deadline."""
        for attempt in world.trains:
            if ending_of(attempt.job) is None and "deletionTimestamp" not in attempt.job["metadata"]:
                await self._cluster.delete(JOBS, attempt.job)

    async def _tidied(self, live: Manifest, status: Manifest, now: datetime) -> Report:
        """Look after what is over: no Job outlives its time to live, and none that was cut off goes on."""
        ttl = (live["spec"].get("scheduling") or {}).get("ttlSecondsAfterFinished")
        cut_off = (status.get("attempts") or [{}])[-1].get("reason") == Reason.DEADLINE_EXCEEDED.value
        if ttl is None and not cut_off:
            return assess.settled(status)
        ended = datetime.fromisoformat(status["completionTime"])
        due = None if ttl is None else ended + timedelta(seconds=ttl)
        if due is not None and now < due and not cut_off:
            return assess.settled(status, (due - now).total_seconds())
        world = await observe(self._cluster, live)
        for attempt in (*world.trains, *world.checks):
            expired = due is not None and now >= due
            if (expired or ending_of(attempt.job) is None) and "deletionTimestamp" not in attempt.job[
                "metadata"
            ]:
                await self._cluster.delete(JOBS, attempt.job)
        wait_s = (due - now).total_seconds() if due is not None and now < due else None
        return assess.settled(status, wait_s)
