"""The frame: loops that wake, back off and end, and a resync that finds what events did not tell."""

import asyncio
import contextvars
import gc
import random
import weakref
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

import pytest

from fake_cluster import FakeCluster
from fettle_operator.conditions import Condition
from fettle_operator.engine.announcements import transitions
from fettle_operator.engine.backoff import pause_after
from fettle_operator.engine.frame import Pass
from fettle_operator.engine.loops import Loops, Pace
from fettle_operator.engine.problems import reason_of, with_problem
from fettle_operator.engine.report import Report
from fettle_operator.engine.resync import Resync
from fettle_operator.errors import (
    ClusterError,
    Conflict,
    Forbidden,
    NameConflict,
    Refused,
    Unavailable,
)
from fettle_operator.metrics import Metrics
from fettle_operator.reasons import Reason
from fettle_operator.resources import ADAPTERS, FINETUNEJOBS, ApiResource, Manifest, ObjectRef
from fettle_operator.settings import Backoff
from fettle_operator.unavailable import UnavailableController

TUNED = ObjectRef(ADAPTERS, "team", "tuned")
QUICK = Backoff(initial_seconds=0.01, max_seconds=0.02)


class Counting:
    """A controller that counts its passes and does what it is told."""

    resource = ADAPTERS
    finalizer: str | None = None

    def __init__(self) -> None:
        self.passes: list[str] = []
        self.act: Callable[[str], Awaitable[None]] = _nothing
        self.changed = asyncio.Condition()

    async def reconcile(self, live: Manifest, now: datetime) -> Report:  # noqa: ARG002 - the interface
        self.passes.append(live["metadata"]["name"])
        async with self.changed:
            self.changed.notify_all()
        await self.act(live["metadata"]["name"])
        return Report((Condition("Ready", "True", Reason.VERIFIED, "fine"),))

    async def passed(self, times: int) -> None:
        async with asyncio.timeout(5), self.changed:
            await self.changed.wait_for(lambda: len(self.passes) >= times)


async def _nothing(_: str) -> None:
    return


class Bench:
    """Loops over a fake cluster."""

    def __init__(self, resync_s: float = 3600) -> None:
        self.cluster = FakeCluster()
        self.controller = Counting()
        self.metrics = Metrics()
        work = Pass(self.controller, self.cluster, self.metrics, lambda: datetime.now(UTC))
        chance = random.Random(1)  # noqa: S311 - jitter
        self.loops = Loops({ADAPTERS: work}, Pace(resync_s, QUICK, settle_s=0), self.metrics, chance)
        self.listed: list[tuple[str, int]] = []
        self.resync = Resync(
            [ADAPTERS],
            [],
            self.cluster,
            self.loops,
            self._hear,
            self.metrics,
        )

    def _hear(self, resource: ApiResource, found: Sequence[Manifest]) -> tuple[ObjectRef, ...]:
        self.listed.append((resource.plural, len(found)))
        return ()

    async def make(self, name: str = "tuned") -> Manifest:
        return await self.cluster.create(
            ADAPTERS, {"metadata": {"namespace": "team", "name": name}, "spec": {}}
        )

    async def remove(self) -> None:
        """Delete the object, as somebody else does."""
        live = await self.cluster.get(TUNED)
        assert live is not None
        await self.cluster.delete(ADAPTERS, live)

    async def finished(self, passes: int) -> None:
        """Wait until so many passes are over, their writes included."""
        await until(lambda: self._passes_over() >= passes)

    def _passes_over(self) -> float:
        counts = self.metrics.reconcile_seconds.collect()
        samples = [sample for metric in counts for sample in metric.samples if sample.name.endswith("_count")]
        return sum(sample.value for sample in samples)


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not look():  # noqa: ASYNC110 - looks at plain state that has no event
            await asyncio.sleep(0.001)


@pytest.fixture
async def bench() -> Bench:
    return Bench()


async def test_a_loop_keeps_nothing_of_the_event_that_began_it(bench: Bench) -> None:
    """A handler's context holds the whole object, and a task keeps the context in which it was made."""

    class Event:
        pass

    def handle(event: Event) -> None:
        contextvars.ContextVar[Event]("event").set(event)
        bench.loops.wake(TUNED)

    await bench.make()
    event = Event()
    contextvars.copy_context().run(handle, event)
    kept = weakref.ref(event)
    del event
    await bench.finished(1)
    gc.collect()
    assert kept() is None
    await bench.loops.stop(1)


async def test_waking_an_object_gives_it_a_pass(bench: Bench) -> None:
    await bench.make()
    bench.loops.wake(TUNED)

    await bench.controller.passed(1)


async def test_an_event_during_a_pass_is_not_lost(bench: Bench) -> None:
    async def wake_again(_: str) -> None:
        if len(bench.controller.passes) == 1:
            bench.loops.wake(TUNED)

    await bench.make()
    bench.controller.act = wake_again
    bench.loops.wake(TUNED)

    await bench.controller.passed(2)


async def test_the_echo_of_our_own_write_brings_no_pass(bench: Bench) -> None:
    await bench.make()
    await bench.make("second")
    bench.loops.wake(TUNED)
    await bench.finished(1)
    echo = bench.cluster.objects[TUNED]["metadata"]["resourceVersion"]

    bench.loops.wake(TUNED, echo)
    bench.loops.wake_uid("of-nobody")
    bench.loops.wake(ObjectRef(ADAPTERS, "team", "second"))
    await bench.finished(2)

    assert bench.controller.passes == ["tuned", "second"]
    bench.loops.wake(TUNED, "newer")
    await bench.finished(3)


async def test_a_childs_event_wakes_its_owner_by_uid(bench: Bench) -> None:
    made = await bench.make()
    bench.loops.wake(TUNED)
    await bench.finished(1)

    bench.loops.wake_uid(made["metadata"]["uid"])

    await bench.controller.passed(2)


async def test_a_child_that_ends_before_its_owners_first_pass_is_over_brings_another(bench: Bench) -> None:
    made = await bench.make()
    metadata = made["metadata"]

    async def child_ends(_: str) -> None:
        bench.controller.act = _nothing
        bench.loops.wake_uid(metadata["uid"])

    bench.controller.act = child_ends
    bench.loops.wake(TUNED, metadata["resourceVersion"], metadata["uid"])

    await bench.controller.passed(2)


async def test_the_children_of_an_object_that_is_made_again_wake_it_too(bench: Bench) -> None:
    first = await bench.make()
    bench.loops.wake(TUNED)
    await bench.finished(1)
    await bench.remove()
    again = (await bench.make())["metadata"]

    async def child_ends(_: str) -> None:
        bench.controller.act = _nothing
        bench.loops.wake_uid(again["uid"])

    bench.controller.act = child_ends
    bench.loops.wake(TUNED, again["resourceVersion"], again["uid"])
    await bench.finished(3)

    # What is left of the first one has nothing to say any more.
    bench.loops.wake_uid(first["metadata"]["uid"])
    await bench.make("second")
    bench.loops.wake(ObjectRef(ADAPTERS, "team", "second"))
    await bench.finished(4)
    assert bench.controller.passes == ["tuned", "tuned", "tuned", "second"]


async def test_the_timer_alone_brings_the_next_pass() -> None:
    bench = Bench(resync_s=0.01)
    await bench.make()
    bench.loops.wake(TUNED)

    await bench.controller.passed(3)


async def test_a_loop_ends_with_its_object(bench: Bench) -> None:
    made = await bench.make()
    bench.loops.wake(TUNED)
    await bench.finished(1)
    await bench.remove()

    bench.loops.wake_uid(made["metadata"]["uid"])

    await until(lambda: not bench.loops.refs(ADAPTERS))


@pytest.mark.parametrize("error", [Unavailable("away"), Conflict("newer"), RuntimeError("a bug")])
async def test_a_failing_pass_is_tried_again_and_others_go_on(bench: Bench, error: Exception) -> None:
    async def fail_thrice(name: str) -> None:
        if name == "tuned" and bench.controller.passes.count("tuned") <= 3:
            raise error

    await bench.make()
    await bench.make("other")
    bench.controller.act = fail_thrice
    bench.loops.wake(TUNED)
    bench.loops.wake(ObjectRef(ADAPTERS, "team", "other"))

    await bench.controller.passed(5)

    assert bench.controller.passes.count("other") == 1


async def test_a_bug_is_logged_once_and_shown_as_a_condition(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    async def always(_: str) -> None:
        raise RuntimeError("secret detail")

    await bench.make()
    bench.controller.act = always
    bench.loops.wake(TUNED)

    await bench.controller.passed(4)

    (ready, _) = bench.cluster.objects[TUNED]["status"]["conditions"]
    assert ready["reason"] == "InternalError"
    assert "secret detail" not in ready["message"]
    assert sum(record.exc_info is not None for record in caplog.records) == 1


async def test_a_stop_lets_the_pass_under_way_finish(bench: Bench) -> None:
    let_go, finished = asyncio.Event(), []

    async def slow(name: str) -> None:
        await let_go.wait()
        finished.append(name)

    await bench.make()
    bench.controller.act = slow
    bench.loops.wake(TUNED)
    await bench.controller.passed(1)
    asyncio.get_running_loop().call_later(0.02, let_go.set)

    await bench.loops.stop(grace_s=5)

    assert finished == ["tuned"]


async def test_a_resync_starts_what_no_event_told_of_and_ends_ghosts(bench: Bench) -> None:
    live = await bench.make()
    await bench.make("second")
    await bench.resync.run()
    await bench.finished(2)
    live = await bench.cluster.get(TUNED) or live
    await bench.cluster.delete(ADAPTERS, live)

    await bench.resync.run()

    await until(lambda: len(bench.loops.refs(ADAPTERS)) == 1)
    assert bench.listed == [("adapters", 2), ("adapters", 1)]


async def test_the_gauges_count_what_waits_and_what_is_stuck(bench: Bench) -> None:
    await bench.make()
    bench.loops.wake(TUNED)
    await bench.controller.passed(1)

    bench.loops.measure()

    value = bench.metrics.registry.get_sample_value
    assert value("fettle_objects", {"kind": "Adapter"}) == 1
    assert value("fettle_stalled_objects", {"kind": "Adapter"}) == 0
    assert value("fettle_queue_depth") == 0


async def test_a_kind_without_a_controller_keeps_what_its_status_had() -> None:
    cluster = FakeCluster()
    made = await cluster.create(FINETUNEJOBS, {"metadata": {"namespace": "team", "name": "sft"}, "spec": {}})
    await cluster.write_status(FINETUNEJOBS, made, {"observedGeneration": -1, "phase": "Running"})
    work = Pass(UnavailableController(FINETUNEJOBS), cluster, Metrics(), lambda: datetime.now(UTC))
    ref = ObjectRef(FINETUNEJOBS, "team", "sft")

    await work.run(ref, 0)
    writes = len(cluster.writes())
    await work.run(ref, 0)

    status = cluster.objects[ref]["status"]
    assert status["phase"] == "Running"
    assert status["observedGeneration"] == 1
    assert status["conditions"][0]["reason"] == "ControllerNotAvailable"
    assert len(cluster.writes()) == writes


def test_the_pause_doubles_up_to_its_bound_and_respects_retry_after() -> None:
    backoff = Backoff(initial_seconds=1, max_seconds=8)
    chance = random.Random(7)  # noqa: S311 - jitter

    pauses = [pause_after(Conflict("x"), failures, backoff, chance) for failures in (1, 2, 3, 4, 5, 50)]

    for pause, expected in zip(pauses, [1, 2, 4, 8, 8, 8], strict=True):
        assert expected * 0.8 <= pause <= expected * 1.2
    assert pause_after(Unavailable("busy", retry_after_s=30), 1, backoff, chance) == 30


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (NameConflict("x"), "NameConflict"),
        (Forbidden("x"), "Forbidden"),
        (Forbidden("create jobs: exceeded quota: small"), "QuotaExceeded"),
        (Unavailable("x"), "ApiUnavailable"),
        (Conflict("x"), "ApiConflict"),
        (Refused("x"), "RequestRefused"),
        (ClusterError("x"), "InternalError"),
        (KeyError("x"), "InternalError"),
    ],
)
def test_every_error_has_a_reason_of_the_closed_list(error: Exception, reason: str) -> None:
    assert reason_of(error) == reason


def test_a_problem_hides_neither_readiness_nor_the_verdict() -> None:
    known = [
        Condition("Ready", "True", Reason.VERIFIED, "fine"),
        Condition("Verified", "True", Reason.VERIFIED, "fine"),
        Condition("Stalled", "True", Reason.INVALID_SPEC, "old"),
    ]

    shown = {each.type: each for each in with_problem(known, Forbidden("no"))}

    assert shown["Ready"].status == "True"
    assert shown["Verified"].status == "True"
    assert shown["Reconciling"].reason == "Forbidden"
    assert "Stalled" not in shown


def test_one_trouble_told_by_two_conditions_is_one_warning() -> None:
    def stored(kind: str, status: str, reason: str) -> Manifest:
        return {"type": kind, "status": status, "reason": reason, "message": "words"}

    before = [stored("Ready", "False", "Verifying")]
    after = [
        stored("Ready", "False", "Unschedulable"),
        stored("Verified", "Unknown", "Unschedulable"),
        stored("InUse", "False", "NotInUse"),
        stored("Reconciling", "True", "Unschedulable"),
    ]

    (told,) = transitions(before, after)

    assert (told.type, told.reason) == ("Warning", "Unschedulable")
    assert transitions(after, after) == ()
