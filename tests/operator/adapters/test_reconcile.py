"""The whole pass over an Adapter on the fake cluster: what it writes, what it says, and when it stays silent."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from adapter_objects import NOW, REPORT, SETTINGS, adapter, pod_of, refused, terminated
from fake_cluster import FakeCluster
from fettle_operator.adapters.reconcile import AdapterController
from fettle_operator.adapters.usage import UsageIndex
from fettle_operator.api.adapter import AdapterStatus
from fettle_operator.conditions import timestamp
from fettle_operator.engine.frame import Outcome, Pass
from fettle_operator.errors import ClusterError, Conflict, Forbidden, Unavailable
from fettle_operator.metrics import Metrics
from fettle_operator.resources import (
    ADAPTERS,
    CLAIMS,
    EVENTS,
    INFERENCEDEPLOYMENTS,
    JOBS,
    PODS,
    ApiResource,
    Manifest,
    ObjectRef,
)

TUNED = ObjectRef(ADAPTERS, "team", "tuned")
CHAT = ObjectRef(INFERENCEDEPLOYMENTS, "team", "chat")


@dataclass
class World:
    """A fake cluster with one Adapter, and the clock."""

    cluster: FakeCluster = field(default_factory=FakeCluster)
    usage: UsageIndex = field(default_factory=UsageIndex)
    now: datetime = NOW
    failures: int = 0

    def __post_init__(self) -> None:
        self.cluster.now = lambda: self.now

    def put(self, resource: ApiResource, manifest: Manifest) -> None:
        self.cluster.version += 1
        manifest["metadata"]["resourceVersion"] = str(self.cluster.version)
        ref = ObjectRef(resource, "team", manifest["metadata"]["name"])
        self.cluster.objects[ref] = manifest

    def serve(self) -> None:
        """Let somebody use the adapter."""
        serving = {
            "metadata": {"namespace": "team", "name": "chat", "uid": "u"},
            "spec": {"adapter": {"adapterRef": {"name": "tuned"}}},
        }
        self.put(INFERENCEDEPLOYMENTS, serving)
        self.usage.put(INFERENCEDEPLOYMENTS, serving)

    @property
    def finalizers(self) -> list[str]:
        finalizers: list[str] = self.cluster.objects[TUNED]["metadata"].get("finalizers", [])
        return finalizers

    async def step(self) -> Outcome:
        controller = AdapterController(self.cluster, SETTINGS, self.usage)
        outcome = await Pass(controller, self.cluster, Metrics(), lambda: self.now).run(TUNED, self.failures)
        self.failures = self.failures + 1 if outcome.failed else 0
        return outcome

    @property
    def status(self) -> Manifest:
        status: Manifest = self.cluster.objects[TUNED]["status"]
        return status

    def condition(self, wanted: str) -> Manifest | None:
        return next((each for each in self.status["conditions"] if each["type"] == wanted), None)

    def ready(self) -> tuple[str, str]:
        condition = self.condition("Ready")
        assert condition is not None
        return condition["reason"], condition["message"]

    def jobs(self) -> list[Manifest]:
        return [manifest for ref, manifest in self.cluster.objects.items() if ref.resource == JOBS]

    def end_job(self, **pod_status: Any) -> None:
        """Let the newest Job end with its pod in this status."""
        job = self.jobs()[-1]
        self.put(PODS, pod_of(job, **pod_status))
        kind = "Complete" if pod_status.get("phase") == "Succeeded" else "Failed"
        ended = {"type": kind, "status": "True", "reason": "X", "lastTransitionTime": timestamp(self.now)}
        job["status"] = {"conditions": [ended]}


@pytest.fixture
def world() -> World:
    world = World()
    world.put(ADAPTERS, adapter())
    world.put(CLAIMS, {"metadata": {"namespace": "team", "name": "store"}})
    return world


async def test_a_sound_adapter_becomes_ready_and_then_nothing_is_written(world: World) -> None:
    await world.step()
    assert world.ready()[0] == "Verifying"
    world.end_job(**terminated(0, json.dumps(REPORT)))

    await world.step()

    assert world.ready()[0] == "Verified"
    assert world.status["phase"] == "Ready"
    AdapterStatus.model_validate(world.status)
    writes = len(world.cluster.writes())
    await world.step()
    assert len(world.cluster.writes()) == writes


async def test_an_adapter_that_a_job_made_says_which() -> None:
    owner = {"kind": "FineTuneJob", "name": "tone", "uid": "job-uid", "controller": True}
    world = World()
    world.put(ADAPTERS, adapter(metadata={"ownerReferences": [owner]}))
    world.put(CLAIMS, {"metadata": {"namespace": "team", "name": "store"}})
    await world.step()
    world.end_job(**terminated(0, json.dumps(REPORT)))

    await world.step()

    assert world.status["producedBy"] == {"name": "tone", "uid": "job-uid"}
    AdapterStatus.model_validate(world.status)


async def test_a_settled_adapter_costs_one_read(world: World) -> None:
    await world.step()
    world.end_job(**terminated(0, json.dumps(REPORT)))
    await world.step()
    world.cluster.calls.clear()

    await world.step()

    assert world.cluster.calls == [("get", "adapters")]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"digest": "sha256:" + "f" * 64}, "spec.digest expects sha256:ffff"),
        (
            {"baseModel": {"huggingFace": {"repo": "other/base"}}},
            "spec.baseModel expects an adapter for other/base",
        ),
    ],
)
async def test_a_sound_adapter_that_is_not_the_expected_one_is_refused(spec: Any, words: str) -> None:
    world = World()
    world.put(ADAPTERS, adapter(spec=spec))
    world.put(CLAIMS, {"metadata": {"namespace": "team", "name": "store"}})
    await world.step()
    world.end_job(**terminated(0, json.dumps(REPORT)))

    await world.step()

    reason, message = world.ready()
    assert reason == "AdapterRefused"
    assert words in message
    assert world.condition("Stalled") is not None


async def test_a_refused_adapter_stays_refused_without_another_attempt(world: World) -> None:
    await world.step()
    world.end_job(**terminated(2, refused()))
    await world.step()
    assert world.ready()[0] == "AdapterRefused"

    world.now += timedelta(days=1)
    world.cluster.objects = {ref: each for ref, each in world.cluster.objects.items() if ref.resource != JOBS}
    await world.step()

    assert world.ready()[0] == "AdapterRefused"
    assert world.jobs() == []


async def test_a_folder_that_is_not_there_yet_is_looked_for_until_it_is(world: World) -> None:
    await world.step()
    for _ in range(SETTINGS.verifier.attempts + 3):
        world.end_job(**terminated(2, refused(code="DirectoryMissing")))
        outcome = await world.step()
        reason, sentence = world.ready()
        assert reason == "PathNotFound"
        assert "tuned on PersistentVolumeClaim store yet" in sentence
        assert outcome.again_in_s is not None
        world.now += timedelta(seconds=outcome.again_in_s)
        await world.step()

    world.end_job(**terminated(0, json.dumps(REPORT)))
    await world.step()

    assert world.ready()[0] == "Verified"


async def test_the_next_attempt_waits_for_its_time(world: World) -> None:
    await world.step()
    world.end_job(**terminated(1))

    outcome = await world.step()
    assert world.ready()[0] == "Retrying"
    assert len(world.jobs()) == 1
    assert outcome.again_in_s == 2.0

    world.now += timedelta(seconds=2)
    await world.step()
    assert len(world.jobs()) == 2
    assert world.ready()[0] == "Verifying"


async def test_an_invalid_spec_is_a_condition_with_every_field_and_no_job() -> None:
    world = World()
    bad = {"volume": {"claimName": "Store!", "path": "../up"}, "fieldOfTomorrow": 1}
    world.put(ADAPTERS, adapter(spec={"source": bad}))

    outcome = await world.step()

    reason, message = world.ready()
    assert reason == "InvalidSpec"
    for path in ("spec.source.volume.claimName", "spec.source.volume.path", "spec.source.fieldOfTomorrow"):
        assert path in message
    assert not outcome.failed
    assert world.status["observedGeneration"] == 1
    assert world.jobs() == []


async def test_an_invalid_spec_does_not_keep_a_dying_adapter() -> None:
    world = World()
    metadata = {"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["fettle.dev/in-use", "other/one"]}
    world.put(ADAPTERS, adapter(spec={"source": {}}, metadata=metadata))

    await world.step()

    assert world.cluster.objects[TUNED]["metadata"]["finalizers"] == ["other/one"]


async def test_only_an_adapter_that_is_used_is_held(world: World) -> None:
    """A namespace that is deleted takes the operator's rights along before it comes to the adapters."""
    await world.step()
    assert world.finalizers == []

    world.serve()
    await world.step()
    assert world.finalizers == ["fettle.dev/in-use"]

    del world.cluster.objects[CHAT]
    world.usage.replace_all(INFERENCEDEPLOYMENTS, [])
    await world.step()
    assert world.finalizers == []


async def test_letting_go_is_decided_by_the_cluster_and_not_by_the_index(world: World) -> None:
    """The index may have missed the event that made a user."""
    world.serve()
    await world.step()
    world.usage.replace_all(INFERENCEDEPLOYMENTS, [])

    await world.step()
    assert world.finalizers == ["fettle.dev/in-use"]

    world.cluster.objects[TUNED]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    await world.step()
    assert world.status["phase"] == "Deleting"
    told = world.condition("InUse")
    assert told is not None
    assert told["message"] == "deletion waits: used by InferenceDeployment chat"
    del world.cluster.objects[CHAT]
    await world.step()
    assert (await world.step()).gone


async def test_a_missing_claim_is_looked_for_often_at_first_and_then_less_so() -> None:
    world = World()
    world.put(ADAPTERS, adapter())
    pauses = []
    for age in (timedelta(), timedelta(seconds=35), timedelta(days=1)):
        world.now = NOW + age
        pauses.append((await world.step()).again_in_s)

    assert world.ready()[0] == "ClaimNotFound"
    assert pauses == [5, 20, 60]


async def test_a_job_of_an_older_template_is_left_to_end(world: World) -> None:
    """Its template cannot be changed; a new operator version must not fight it."""
    await world.step()
    job = world.jobs()[0]
    job["metadata"]["annotations"]["fettle.dev/template-hash"] = "older"
    job["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.fettle.dev/operator:0"
    world.cluster.calls.clear()

    outcome = await world.step()

    assert not outcome.failed
    assert ("patch", "jobs") not in world.cluster.calls


async def test_a_job_that_lost_its_labels_is_found_by_its_name_and_repaired(world: World) -> None:
    await world.step()
    job = world.jobs()[0]
    labels = dict(job["metadata"]["labels"])
    job["metadata"]["labels"] = {}

    await world.step()

    assert world.jobs()[0]["metadata"]["labels"] == labels


async def test_a_namesake_is_a_condition_and_stays_untouched(world: World) -> None:
    await world.step()
    job = world.jobs()[0]
    job["metadata"]["ownerReferences"] = []
    before = json.dumps(job)

    outcome = await world.step()

    assert world.ready()[0] == "NameConflict"
    assert outcome.failed
    assert json.dumps(world.jobs()[0]) == before


@pytest.mark.parametrize("call", [("patch", "adapters"), ("create", "jobs"), ("patch", "adapters/status")])
@pytest.mark.parametrize("error", [Unavailable("away"), Conflict("newer"), Forbidden("no")])
@pytest.mark.parametrize("lost", [False, True])
async def test_one_failing_write_is_made_up_for_by_the_next_pass(
    world: World, call: tuple[str, str], error: ClusterError, lost: bool
) -> None:
    world.serve()
    (world.cluster.lost_replies if lost else world.cluster.failures)[call] = [error]

    assert (await world.step()).failed
    await world.step()
    world.end_job(**terminated(0, json.dumps(REPORT)))
    await world.step()

    assert world.ready()[0] == "Verified"
    assert world.condition("Reconciling") is None
    assert len(world.jobs()) == 1


async def test_a_passing_trouble_is_written_only_when_it_lasts(world: World) -> None:
    world.cluster.failures["create", "jobs"] = [Unavailable("away")] * 3
    for _ in range(2):
        await world.step()
        assert "status" not in world.cluster.objects[TUNED]

    await world.step()

    assert world.ready()[0] == "ApiUnavailable"


async def test_a_ready_adapter_stays_ready_when_the_operator_is_in_trouble(world: World) -> None:
    await world.step()
    world.end_job(**terminated(0, json.dumps(REPORT)))
    await world.step()
    world.serve()
    world.cluster.failures["patch", "adapters"] = [Forbidden("patch adapters: no")]

    await world.step()

    assert world.ready()[0] == "Verified"
    told = world.condition("Reconciling")
    assert told is not None
    assert told["reason"] == "Forbidden"


async def test_an_event_that_cannot_be_posted_costs_nothing(world: World) -> None:
    world.cluster.failures["create", "events"] = [Forbidden("no events")] * 9

    outcome = await world.step()

    assert not outcome.failed
    assert world.ready()[0] == "Verifying"


async def test_transitions_are_announced_once(world: World) -> None:
    for _ in range(3):
        await world.step()
    world.end_job(**terminated(0, json.dumps(REPORT)))
    for _ in range(3):
        await world.step()

    told = [each["reason"] for ref, each in world.cluster.objects.items() if ref.resource == EVENTS]

    assert told == ["Verifying", "Verified"]
