"""The reconcile function of Adapter: what is looked at, in which order, and what is done about it."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from fettle_operator.adapters import assess
from fettle_operator.adapters.attempts import (
    ABSENCE,
    Absent,
    Broken,
    Refused,
    Verified,
    finding_of,
    retry_at,
)
from fettle_operator.adapters.desired import verification_job
from fettle_operator.adapters.usage import USER_KINDS, UsageIndex, User, users_of
from fettle_operator.api.adapter import Adapter
from fettle_operator.api.base import InvalidObjectError
from fettle_operator.cluster.port import Cluster
from fettle_operator.engine.report import Report
from fettle_operator.jobs import Attempt, attempts_of, is_waiting
from fettle_operator.labels import IN_USE_FINALIZER, OWNER_UID
from fettle_operator.lookout import Lookout
from fettle_operator.owned import create, repair_job
from fettle_operator.ownership import controller_of
from fettle_operator.pods import Obstacle
from fettle_operator.reasons import Reason
from fettle_operator.resources import ADAPTERS, CLAIMS, JOBS, PODS, Manifest, ObjectRef
from fettle_operator.settings import Settings

__all__ = ["AdapterController"]


class AdapterController:
    """Verifies imported adapters, and keeps those that somebody uses from being deleted.

    The finalizer is on only while there are users. On every adapter it would keep a namespace from being deleted for
    ever: the operator's rights in it go before the adapters do.
    """

    resource = ADAPTERS
    finalizer: str | None = IN_USE_FINALIZER

    def __init__(self, cluster: Cluster, settings: Settings, usage: UsageIndex) -> None:
        self._cluster = cluster
        self._settings = settings
        self._usage = usage
        self._lookout = Lookout(cluster)

    async def reconcile(self, live: Manifest, now: datetime) -> Report:
        """Bring one Adapter forward and report on it."""
        metadata = live["metadata"]
        if "deletionTimestamp" in metadata:
            return await self._deletion(live)
        users = self._usage.users_of(metadata["namespace"], metadata["name"])
        report = await self._forward(live, users, now)
        return replace(report, holds=bool(users) or await self._is_still_needed(live))

    async def _forward(self, live: Manifest, users: Sequence[User], now: datetime) -> Report:
        status = live.get("status") or {}
        try:
            # Status is our own writing, perhaps by another version; only what people wrote is checked.
            adapter = Adapter.read({key: value for key, value in live.items() if key != "status"})
        except InvalidObjectError as error:
            return assess.invalid(status, error.problems, users)
        if verdict := assess.verdict_in(status):
            return assess.settled(status, verdict, users)
        if report := assess.unsupported(adapter.spec, users):
            return report
        return await self._verification(live, adapter, users, now)

    async def _deletion(self, live: Manifest) -> Report:
        """Let go unless somebody needs the adapter."""
        users = await self._users_now(live)
        return replace(assess.deleting(live.get("status") or {}, users), holds=bool(users))

    async def _is_still_needed(self, live: Manifest) -> bool:
        """Say whether the finalizer has to stay on an adapter that the index knows no user of."""
        is_held = IN_USE_FINALIZER in live["metadata"].get("finalizers", [])
        return is_held and bool(await self._users_now(live))

    async def _users_now(self, live: Manifest) -> tuple[User, ...]:
        """Return who uses the adapter; letting go is decided by the API server's word, never by a cache's."""
        metadata = live["metadata"]
        listed = {kind: await self._cluster.list(kind, metadata["namespace"]) for kind in USER_KINDS}
        return users_of(metadata["name"], listed)

    async def _verification(
        self, live: Manifest, adapter: Adapter, users: Sequence[User], now: datetime
    ) -> Report:
        attempts = await self._attempts(live)
        latest = attempts[-1] if attempts else None
        # Once there is a pod, the scheduler tells of a missing claim.
        if latest is None and (obstacle := await self._missing_claim(live)):
            return assess.waiting(obstacle, users, self._lookout.again_in_s(live, now))
        finding = finding_of(latest) if latest else None
        if latest is None or finding is None:
            return await self._attempt(live, latest, users, now)
        if isinstance(finding, Verified | Refused):
            return assess.judged(finding, adapter.spec, users, controller_of(live))
        broken = sum(isinstance(finding_of(attempt), Broken) for attempt in attempts)
        if isinstance(finding, Broken) and broken >= self._settings.verifier.attempts:
            return assess.exhausted(finding, broken, users)
        if isinstance(finding, Absent):
            obstacle, due = _absence(live), retry_at(latest, ABSENCE)
        else:
            sentence = f"attempt {broken} of {self._settings.verifier.attempts} broke: {finding.message}"
            obstacle, due = Obstacle(finding.reason, sentence), retry_at(latest, self._settings.backoff)
        if now < due:
            return assess.waiting(obstacle, users, (due - now).total_seconds())
        await create(self._cluster, JOBS, verification_job(live, latest.number + 1, self._settings), live)
        return assess.verifying(users)

    async def _missing_claim(self, live: Manifest) -> Obstacle | None:
        name = live["spec"]["source"]["volume"]["claimName"]
        claim = await self._cluster.get(ObjectRef(CLAIMS, live["metadata"]["namespace"], name))
        if claim is not None:
            return None
        sentence = (
            f"PersistentVolumeClaim {name} does not exist in this namespace; create it, or correct the name"
        )
        return Obstacle(Reason.CLAIM_NOT_FOUND, sentence)

    async def _attempts(self, live: Manifest) -> tuple[Attempt, ...]:
        namespace, uid = live["metadata"]["namespace"], live["metadata"]["uid"]
        jobs = await self._cluster.list(JOBS, namespace, {OWNER_UID: uid})
        pods = await self._cluster.list(PODS, namespace, {OWNER_UID: uid}) if jobs else []
        return attempts_of(uid, jobs, pods)

    async def _attempt(
        self, live: Manifest, latest: Attempt | None, users: Sequence[User], now: datetime
    ) -> Report:
        """See to it that the attempt's Job exists and is as it should be; tell what it waits for."""
        job = verification_job(live, latest.number if latest else 1, self._settings)
        if latest is None:
            await create(self._cluster, JOBS, job, live)
            return assess.verifying(users)
        await repair_job(self._cluster, JOBS, job, latest.job)
        look_in_s = None if _runs(latest) else self._lookout.again_in_s(latest.job, now)
        if obstacle := await self._lookout.obstacle_of(latest, now):
            return assess.waiting(obstacle, users, look_in_s)
        return assess.verifying(users, look_in_s)


def _absence(live: Manifest) -> Obstacle:
    volume = live["spec"]["source"]["volume"]
    sentence = (
        f"there is no folder {volume['path']} on PersistentVolumeClaim {volume['claimName']} yet; put the adapter "
        "there, or create another Adapter with the right spec.source.volume.path"
    )
    return Obstacle(Reason.PATH_NOT_FOUND, sentence)


def _runs(attempt: Attempt) -> bool:
    return attempt.pod is not None and not is_waiting(attempt.pod)
