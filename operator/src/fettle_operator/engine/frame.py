"""One pass over one object: observe → reconcile → report. It never raises; what went wrong is in the outcome."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from fettle_operator.cluster.port import Cluster
from fettle_operator.conditions import find, updated
from fettle_operator.engine.announcements import event_manifest, transitions
from fettle_operator.engine.problems import PATIENCE, is_passing, reason_of, with_problem
from fettle_operator.engine.report import Controller, Report
from fettle_operator.errors import ClusterError, FettleError
from fettle_operator.metrics import Metrics
from fettle_operator.resources import EVENTS, Manifest, ObjectRef

__all__ = ["Clock", "Outcome", "Pass"]

Clock = Callable[[], datetime]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What the loop needs to know to decide when the next pass comes."""

    gone: bool = False
    uid: str | None = None
    resource_version: str | None = None
    """The version that the pass left behind; its echo from the watch brings no news."""
    again_in_s: float | None = None
    error: FettleError | None = None
    failed: bool = False


class Pass:
    """The passes of one kind."""

    def __init__(self, controller: Controller, cluster: Cluster, metrics: Metrics, clock: Clock) -> None:
        self._controller = controller
        self._cluster = cluster
        self._metrics = metrics
        self._clock = clock

    async def run(self, ref: ObjectRef, failures: int) -> Outcome:
        """Run one pass; `failures` is the number of failed ones just before it."""
        began = time.perf_counter()
        outcome = await self._guarded(ref, failures)
        result = "gone" if outcome.gone else "failed" if outcome.failed else "done"
        seconds = self._metrics.reconcile_seconds.labels(ref.resource.kind, result)
        seconds.observe(time.perf_counter() - began)
        return outcome

    async def _guarded(self, ref: ObjectRef, failures: int) -> Outcome:
        live: Manifest | None = None
        try:
            live = await self._cluster.get(ref)
            if live is None:
                return Outcome(gone=True)
            report = await self._controller.reconcile(live, self._clock())
            live = await self._held(live, report)
            if not self._has_let_go(live, report):
                live = await self._reported(ref, live, report)
        except FettleError as error:
            logger.warning("%s: %s: %s", ref, reason_of(error), error)
            await self._show(ref, live, error, failures + 1)
            return Outcome(uid=_uid(live), error=error, failed=True)
        except Exception as error:
            # A bug must neither end the loop nor fill the log: one traceback for a row of failures.
            logger.error("%s: the pass broke", ref, exc_info=error if failures == 0 else None)  # noqa: TRY400 - see above
            await self._show(ref, live, error, failures + 1)
            return Outcome(uid=_uid(live), failed=True)
        version = live["metadata"]["resourceVersion"]
        return Outcome(uid=_uid(live), resource_version=version, again_in_s=report.again_in_s)

    async def _held(self, live: Manifest, report: Report) -> Manifest:
        """Put our finalizer on while somebody needs the object, unless it is too late for that, and take it off."""
        finalizer, metadata = self._controller.finalizer, live["metadata"]
        others = [each for each in metadata.get("finalizers", []) if each != finalizer]
        is_on = len(others) < len(metadata.get("finalizers", []))
        if finalizer is None or is_on == report.holds or (report.holds and "deletionTimestamp" in metadata):
            return live
        wanted = [*others, finalizer] if report.holds else others
        return await self._cluster.write_finalizers(self._controller.resource, live, wanted)

    def _has_let_go(self, live: Manifest, report: Report) -> bool:
        """Say whether the object is going for good, so that nobody reads its status any more."""
        waits = self._controller.finalizer is not None
        return waits and not report.holds and "deletionTimestamp" in live["metadata"]

    async def _reported(self, ref: ObjectRef, live: Manifest, report: Report) -> Manifest:
        """Write status once, and only if it differs; then tell of what changed."""
        before = live.get("status") or {}
        generation = live["metadata"]["generation"]
        conditions = updated(before.get("conditions", []), report.conditions, generation, self._clock())
        status = {**report.status, "observedGeneration": generation, "conditions": conditions}
        if status == before:
            return live
        written = await self._cluster.write_status(ref.resource, live, status)
        await self._announce(ref, written, before.get("conditions", []), conditions)
        return written

    async def _announce(
        self, ref: ObjectRef, live: Manifest, before: list[Manifest], after: list[Manifest]
    ) -> None:
        """Post events as far as possible: status has the truth, so a lost event is no reason for another pass."""
        for announcement in transitions(before, after):
            logger.info("%s: %s: %s", ref, announcement.reason, announcement.message)
            event = event_manifest(ref.resource, live, announcement, self._clock())
            try:
                await self._cluster.create(EVENTS, event)
            except ClusterError as error:
                logger.warning("%s: the event %s was not posted: %s", ref, announcement.reason, error)

    async def _show(self, ref: ObjectRef, live: Manifest | None, error: Exception, failures: int) -> None:
        """Put the problem where the user looks, unless it will probably have passed before that."""
        if live is None or (is_passing(error) and failures < PATIENCE):
            return
        before = live.get("status") or {}
        stored = before.get("conditions", [])
        known = [known for each in stored if (known := find(stored, each["type"])) is not None]
        kept = {
            key: value for key, value in before.items() if key not in {"conditions", "observedGeneration"}
        }
        try:
            await self._reported(ref, live, Report(conditions=with_problem(known, error), status=kept))
        except ClusterError as second:
            logger.warning("%s: the problem could not be written into its status: %s", ref, second)


def _uid(live: Manifest | None) -> str | None:
    return None if live is None else live["metadata"]["uid"]
