"""The whole pass over a FineTuneJob on the fake cluster: what it makes, what it says, and when it stays silent."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from fake_cluster import FakeCluster
from fettle_operator.api.finetunejob import FineTuneJobStatus
from fettle_operator.conditions import timestamp
from fettle_operator.engine.frame import Outcome, Pass
from fettle_operator.finetune.progress import Desk
from fettle_operator.finetune.reconcile import FineTuneJobController
from fettle_operator.metrics import Metrics
from fettle_operator.resources import (
    ADAPTERS,
    CLAIMS,
    CONFIGMAPS,
    EVENTS,
    FINETUNEJOBS,
    JOBS,
    PODS,
    SERVICES,
    ApiResource,
    Manifest,
    ObjectRef,
)
from finetune_objects import (
    DIGEST,
    NOW,
    SETTINGS,
    UID,
    checked,
    failed,
    finetunejob,
    outcome,
    pod_end,
    pod_of,
    rejected,
    succeeded,
)

PREEMPTED = {"type": "DisruptionTarget", "status": "True", "message": "preempted"}
TONE = ObjectRef(FINETUNEJOBS, "team", "tone")


@dataclass
class Pods:
    """What the pods answer when they are asked how far they are."""

    answer: bytes | None = None
    asked: list[str] = field(default_factory=list)

    async def read(self, address: str) -> bytes | None:
        self.asked.append(address)
        return self.answer


@dataclass
class World:
    """A fake cluster with one FineTuneJob, and the clock."""

    cluster: FakeCluster = field(default_factory=FakeCluster)
    pods: Pods = field(default_factory=Pods)
    now: datetime = NOW
    failures: int = 0
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.cluster.now = lambda: self.now
        self.desk = Desk(self.pods)

    def put(self, resource: ApiResource, manifest: Manifest) -> None:
        self.cluster.version += 1
        manifest["metadata"]["resourceVersion"] = str(self.cluster.version)
        self.cluster.objects[ObjectRef(resource, "team", manifest["metadata"]["name"])] = manifest

    async def step(self) -> Outcome:
        controller = FineTuneJobController(self.cluster, SETTINGS, self.desk, self.metrics.jobs)
        result = await Pass(controller, self.cluster, Metrics(), lambda: self.now).run(TONE, self.failures)
        self.failures = self.failures + 1 if result.failed else 0
        assert not result.failed, self.cluster.objects[TONE].get("status")
        if "status" in self.cluster.objects[TONE]:
            FineTuneJobStatus.model_validate_json(json.dumps(self.status))
        return result

    async def settle(self) -> Outcome:
        """Step until the next pass is not due at once."""
        for _ in range(10):
            result = await self.step()
            if result.again_in_s is None or result.again_in_s > 0.1:
                return result
        raise AssertionError("the passes do not come to rest")

    @property
    def status(self) -> Manifest:
        status: Manifest = self.cluster.objects[TONE]["status"]
        return status

    def ready(self) -> tuple[str, str]:
        condition = self.condition("Ready")
        assert condition is not None
        return condition["reason"], condition["message"]

    def condition(self, wanted: str) -> Manifest | None:
        return next((each for each in self.status["conditions"] if each["type"] == wanted), None)

    def all(self, resource: ApiResource) -> list[Manifest]:
        return [manifest for ref, manifest in self.cluster.objects.items() if ref.resource == resource]

    def job(self) -> Manifest:
        return self.all(JOBS)[-1]

    def run_pods(self) -> None:
        """Let all pods of the newest Job run."""
        job = self.job()
        for index in range(job["spec"]["completions"]):
            running = {"name": "trainer", "state": {"running": {"startedAt": timestamp(self.now)}}}
            self.put(
                PODS,
                pod_of(job, index, phase="Running", podIP=f"10.0.0.{index}", containerStatuses=[running]),
            )

    def end_job(self, *ends: dict[str, Any], complete: bool = False) -> None:
        """Let the newest Job end with its pods in these statuses."""
        job = self.job()
        for index, status in enumerate(ends):
            self.put(PODS, pod_of(job, index, **status))
        kind = "Complete" if complete else "Failed"
        ended = {"type": kind, "status": "True", "reason": "X", "lastTransitionTime": timestamp(self.now)}
        job["status"] = {"conditions": [ended]}

    async def pass_check(self) -> None:
        await self.settle()
        self.end_job(pod_end(0, checked()), complete=True)
        await self.settle()

    def let_adapter_be(self, reason: str, status: str, *more: Manifest) -> None:
        ready = {
            "type": "Ready",
            "status": status,
            "reason": reason,
            "message": "told",
            "lastTransitionTime": "x",
        }
        self.all(ADAPTERS)[0]["status"] = {"digest": DIGEST, "conditions": [ready, *more]}


def world_with(**spec: Any) -> World:
    world = World()
    world.put(FINETUNEJOBS, finetunejob(**spec))
    world.put(CLAIMS, {"metadata": {"namespace": "team", "name": "models"}})
    return world


@pytest.fixture
def world() -> World:
    return world_with()


async def test_a_job_goes_from_its_data_to_a_ready_adapter(world: World) -> None:
    phases = []

    async def look() -> None:
        await world.settle()
        phases.append((world.status["phase"], world.ready()[0]))

    await look()
    assert [job["metadata"]["name"] for job in world.all(JOBS)] == ["tone-check-1"]
    world.end_job(pod_end(0, checked()), complete=True)
    await look()
    assert world.job()["metadata"]["name"] == "tone-train-1"
    world.run_pods()
    await look()
    world.now += timedelta(seconds=100)
    world.end_job(pod_end(0, succeeded()), complete=True)
    await look()
    world.let_adapter_be("Verified", "True")
    await look()

    assert phases == [
        ("Validating", "Validating"),
        ("Queued", "Queued"),
        ("Running", "Running"),
        ("Evaluating", "Recording"),
        ("Succeeded", "Succeeded"),
    ]
    status = world.status
    assert status["adapter"]["digest"] == DIGEST
    assert status["dataset"]["rows"] == 90
    assert status["resolved"] == {"training.microBatchSize": "4"}
    assert status["evaluation"] == {"tuned": {"loss": 1.5}, "base": {"loss": 2.5}}
    assert status["progress"]["summary"] == "20/20 (100%)"
    assert status["attempts"][0]["outcome"] == "Succeeded"
    assert status["attempts"][0]["seconds"] == 100
    assert status["attempts"][0]["nodes"] == ["node-0"]
    adapter = world.all(ADAPTERS)[0]
    assert adapter["spec"]["source"]["volume"]["path"] == f"tone/sha256-{'a' * 64}"
    assert adapter["spec"]["digest"] == DIGEST
    assert adapter["spec"]["baseModel"] == {"volume": {"claimName": "models", "path": "tiny"}}
    writes = len(world.cluster.writes())
    assert writes <= 20, world.cluster.writes()
    await world.step()
    world.cluster.calls.clear()
    await world.step()
    assert world.cluster.calls == [("get", "finetunejobs")]


async def test_what_a_run_will_need_is_told_before_it_begins_and_what_it_chose_afterwards(
    world: World,
) -> None:
    await world.settle()
    told = checked(seconds=90, resolved={"training.precision": "fp32", "training.microBatchSize": "8"})
    world.end_job(pod_end(0, told), complete=True)
    await world.settle()

    assert world.status["estimate"] == {"memory": "1024Mi", "seconds": 90}
    assert world.status["resolved"] == {"training.precision": "fp32", "training.microBatchSize": "8"}
    world.run_pods()
    running = {"phase": "training", "step": 1, "totalSteps": 20, "resolved": {"training.precision": "bf16"}}
    world.pods.answer = json.dumps(running).encode()
    await world.settle()
    assert world.status["resolved"]["training.precision"] == "bf16"
    ended = succeeded(resolved={"training.precision": "bf16", "lora.rank": "16"})
    world.end_job(pod_end(0, ended), complete=True)
    await world.settle()
    assert world.status["resolved"] == {
        "training.precision": "bf16",
        "training.microBatchSize": "4",
        "lora.rank": "16",
    }


async def test_a_forecast_for_a_cpu_says_nothing_of_gpus_that_nobody_named() -> None:
    world = world_with(profile="gpu")
    await world.settle()
    world.end_job(pod_end(0, checked(resolved={"training.precision": "fp32"})), complete=True)
    await world.settle()

    assert "estimate" not in world.status
    assert "resolved" not in world.status


async def test_a_missed_gate_shows_its_numbers(world: World) -> None:
    await world.pass_check()
    world.run_pods()
    gates = [
        {"metric": "loss", "bound": "max", "threshold": 1.8, "value": 2.1, "passed": False},
        {"metric": "loss", "bound": "minGainOverBase", "threshold": 0.1, "value": 0.4, "passed": True},
    ]
    metrics = {"loss": 2.1, "base-loss": 2.5}
    world.end_job(pod_end(3, failed("gateMissed", "GateMissed", "too bad", gates=gates, metrics=metrics)))

    await world.settle()

    assert world.ready()[0] == "GateMissed"
    assert world.status["evaluation"] == {
        "tuned": {"loss": 2.1},
        "base": {"loss": 2.5},
        "gates": [
            {"metric": "loss", "passed": False, "value": 2.1, "required": "<= 1.8"},
            {"metric": "loss", "passed": True, "value": 0.4, "required": "better than base by >= 0.1"},
        ],
    }


async def test_a_full_store_is_told_while_it_is_tried_again_and_at_the_end() -> None:
    world = world_with(scheduling={"retries": 1})
    await world.pass_check()
    reasons = []
    for _ in range(2):
        world.run_pods()
        world.end_job(pod_end(1, failed(code="StorageFull", message="no space is left")))
        result = await world.settle()
        reasons.append(world.ready()[0])
        world.now += timedelta(seconds=result.again_in_s or 0)
        await world.settle()

    assert reasons == ["StorageFull", "StorageFull"]
    assert world.status["phase"] == "Failed"
    assert "no space is left" in world.ready()[1]


async def test_seconds_add_up_over_attempts() -> None:
    world = world_with(profile="gpu")
    await world.pass_check()
    for seconds, end in (
        (100, pod_end(143, outcome("stopped", step=50, checkpointStep=40), conditions=[PREEMPTED])),
        (60, pod_end(1, failed(step=60, checkpointStep=60))),
        (30, pod_end(0, succeeded())),
    ):
        world.run_pods()
        await world.settle()
        began = timestamp(world.now)
        world.now += timedelta(seconds=seconds)
        ended = end["containerStatuses"][0]["state"]["terminated"]
        ended["startedAt"] = began
        world.end_job(end, complete=ended["exitCode"] == 0)
        result = await world.settle()
        world.now += timedelta(seconds=result.again_in_s or 0)
        await world.settle()

    assert [each["lostSeconds"] for each in world.status["attempts"]] == [20, 0, 0]
    assert (world.status["gpuSeconds"], world.status["lostSeconds"], world.status["activeSeconds"]) == (
        190,
        20,
        190,
    )
    assert world.status["gpuHours"] == "0.05"


async def test_no_pod_is_asked_for_before_the_data_is_good(world: World) -> None:
    await world.settle()
    world.end_job(pod_end(2, rejected()))

    await world.settle()

    reason, message = world.ready()
    assert reason == "DatasetInvalid"
    assert "/configmaps/rows/train.jsonl:7: the line is no JSON" in message
    assert world.status["phase"] == "Failed"
    assert world.status["dataset"]["findings"][0]["line"] == 7
    assert world.condition("Stalled") is not None
    assert len(world.all(JOBS)) == 1
    assert "attempts" not in world.status, "the spec may still be looked at, but this job is over"


@pytest.mark.parametrize(
    ("end", "outcome_word", "counted"),
    [
        (pod_end(85, outcome("stopped", checkpointStep=7)), "Stopped", 0),
        (
            pod_end(143, conditions=[{"type": "DisruptionTarget", "status": "True", "message": "preempted"}]),
            "Stopped",
            0,
        ),
        ({"phase": "Failed", "reason": "Evicted", "message": "disk"}, "Stopped", 0),
        (pod_end(1, failed(checkpointStep=7)), "Failed", 1),
        (pod_end(137), "Failed", 1),
        (pod_end(86, failed("outOfMemory", "OutOfMemory", microBatchSize=8)), "OutOfMemory", 0),
        (pod_end(137, reason="OOMKilled"), "OutOfMemory", 0),
    ],
)
async def test_an_attempt_that_ends_early_is_followed_by_another(
    world: World, end: Any, outcome_word: str, counted: int
) -> None:
    await world.pass_check()
    world.run_pods()
    await world.settle()
    world.now += timedelta(seconds=60)
    world.end_job(end)

    await world.settle()
    world.now += timedelta(seconds=2)
    await world.settle()

    first, second = world.status["attempts"]
    assert first["outcome"] == outcome_word
    assert second["outcome"] == "Running"
    assert world.status["failedAttempts"] == counted
    assert world.job()["metadata"]["name"] == "tone-train-2"


async def test_out_of_memory_halves_the_micro_batch_and_nothing_else(world: World) -> None:
    await world.pass_check()
    world.run_pods()
    world.end_job(pod_end(86, failed("outOfMemory", "OutOfMemory", microBatchSize=8)))
    await world.settle()
    world.now += timedelta(seconds=2)
    await world.settle()

    configs = [json.loads(each["data"]["run.json"]) for each in world.all(CONFIGMAPS)]
    assert [config["training"].get("microBatchSize") for config in configs] == [None, 4]
    first, second = (
        {**config, "training": {**config["training"], "microBatchSize": 0}} for config in configs
    )
    assert first == second


@pytest.mark.parametrize(
    ("end", "reason", "words"),
    [
        (
            pod_end(2, failed(code="TemplateMissing", message="tokenizer.json: no chat template")),
            "InputRefused",
            "no chat template",
        ),
        (
            pod_end(3, failed("gateMissed", "GateMissed", "loss at most 1.8 (it is 2.1)")),
            "GateMissed",
            "it is 2.1",
        ),
    ],
)
async def test_what_is_wrong_for_good_ends_the_job_at_once(
    world: World, end: Any, reason: str, words: str
) -> None:
    await world.pass_check()
    world.run_pods()
    world.end_job(end)

    await world.settle()

    assert world.ready()[0] == reason
    assert words in world.ready()[1]
    assert world.status["phase"] == "Failed"
    assert world.all(ADAPTERS) == []
    world.now += timedelta(days=1)
    await world.settle()
    assert len(world.all(JOBS)) == 2


async def test_retries_are_used_up_one_by_one_with_growing_pauses() -> None:
    world = world_with(scheduling={"retries": 2})
    await world.pass_check()
    pauses = []
    for _ in range(3):
        world.run_pods()
        world.end_job(pod_end(1, failed()))
        result = await world.settle()
        pauses.append(result.again_in_s)
        world.now += timedelta(seconds=result.again_in_s or 0)
        await world.settle()

    assert pauses == [1, 2, None]
    assert world.ready()[0] == "RetriesExhausted"
    assert "3 attempts failed; the last one: it broke" in world.ready()[1]


async def test_the_next_attempt_waits_until_no_process_of_the_last_one_runs(world: World) -> None:
    await world.pass_check()
    world.run_pods()
    await world.settle()
    job = world.job()
    del world.cluster.objects[ObjectRef(JOBS, "team", job["metadata"]["name"])]

    await world.settle()
    assert world.ready()[0] == "Stopping"
    assert world.all(JOBS)[-1]["metadata"]["name"] == "tone-check-1"

    for ref in [ref for ref in world.cluster.objects if ref.resource == PODS and "train" in ref.name]:
        del world.cluster.objects[ref]
    await world.settle()
    assert world.job()["metadata"]["name"] == "tone-train-1"


async def test_a_node_that_does_not_end_its_pod_is_named_with_what_to_do(world: World) -> None:
    await world.pass_check()
    world.run_pods()
    await world.settle()
    (ref,) = (ref for ref in world.cluster.objects if ref.resource == PODS and "train" in ref.name)
    world.cluster.objects[ref]["metadata"]["deletionTimestamp"] = timestamp(world.now)

    await world.settle()
    assert world.ready() == (
        "Stopping",
        "pods tone-train-1-0-x are being taken away; the next attempt waits until their processes have ended",
    )

    world.now += timedelta(seconds=40)
    await world.settle()
    assert "node does not say so (node-0)" in world.ready()[1]
    assert "node.kubernetes.io/out-of-service" in world.ready()[1]


async def test_suspension_ends_the_attempt_and_its_end_starts_the_next_one(world: World) -> None:
    await world.pass_check()
    world.run_pods()
    await world.settle()
    world.cluster.objects[TONE]["spec"]["scheduling"] = {"suspend": True}

    await world.settle()

    assert world.status["phase"] == "Suspended"
    assert world.status["attempts"][0]["reason"] == "Suspended"
    assert [job["metadata"]["name"] for job in world.all(JOBS)] == ["tone-check-1"]
    assert ("delete", "jobs") in world.cluster.calls
    world.cluster.objects[TONE]["spec"]["scheduling"] = {}
    for ref in [ref for ref in world.cluster.objects if ref.resource == PODS]:
        del world.cluster.objects[ref]
    await world.settle()
    assert world.job()["metadata"]["name"] == "tone-train-2"
    assert world.status["failedAttempts"] == 0


async def test_a_suspended_job_asks_for_nothing() -> None:
    world = world_with(scheduling={"suspend": True})

    await world.settle()

    assert world.status["phase"] == "Suspended"
    assert {
        verb for verb, kind in world.cluster.writes() if kind not in {"events", "finetunejobs/status"}
    } == set()


async def test_the_deadline_counts_active_time_only() -> None:
    world = world_with(scheduling={"deadlineSeconds": 100})
    await world.pass_check()
    world.now += timedelta(hours=1)
    await world.settle()
    assert world.status["phase"] == "Queued"
    world.run_pods()
    result = await world.settle()
    assert result.again_in_s == 5
    world.now += timedelta(seconds=98)
    assert (await world.settle()).again_in_s == pytest.approx(2)
    world.now += timedelta(seconds=2)

    await world.settle()

    assert world.ready()[0] == "DeadlineExceeded"
    assert [job["metadata"]["name"] for job in world.all(JOBS)] == ["tone-check-1"]


async def test_jobs_go_after_their_time_and_the_adapter_stays() -> None:
    world = world_with(scheduling={"ttlSecondsAfterFinished": 60})
    await world.pass_check()
    world.run_pods()
    world.end_job(pod_end(0, succeeded()), complete=True)
    await world.settle()
    world.let_adapter_be("Verified", "True")
    assert (await world.settle()).again_in_s is None
    assert (await world.settle()).again_in_s == 60
    world.now += timedelta(seconds=60)

    await world.settle()

    assert world.all(JOBS) == []
    assert len(world.all(ADAPTERS)) == 1
    assert world.status["phase"] == "Succeeded"


async def test_progress_is_asked_for_every_five_seconds_and_written_when_it_moved(world: World) -> None:
    await world.pass_check()
    world.run_pods()
    told = {
        "phase": "training",
        "step": 3,
        "totalSteps": 20,
        "loss": 2.0,
        "updatedAt": "2026-01-01T12:00:00Z",
    }
    world.pods.answer = json.dumps(told).encode()
    await world.settle()
    assert world.status["progress"]["step"] == 3
    writes = len(world.cluster.writes())

    await world.settle()
    world.now += timedelta(seconds=5)
    world.pods.answer = json.dumps({**told, "updatedAt": "2026-01-01T12:00:05Z"}).encode()
    await world.settle()
    assert world.pods.asked == ["10.0.0.0", "10.0.0.0"]
    assert len(world.cluster.writes()) == writes
    world.now += timedelta(seconds=5)
    world.pods.answer = json.dumps({**told, "step": 4}).encode()
    await world.settle()
    assert world.status["progress"]["step"] == 4


@pytest.mark.parametrize("answer", [None, b"", b"{", b'{"step": -1}', b"[" * 10000, b'{"surprise": 1}'])
async def test_progress_that_cannot_be_read_fails_nothing(world: World, answer: bytes | None) -> None:
    await world.pass_check()
    world.run_pods()
    world.pods.answer = answer

    await world.settle()

    assert world.ready()[0] == "Running"
    assert "progress" not in world.status


async def test_a_status_that_was_erased_is_made_again_from_the_children(world: World) -> None:
    await world.pass_check()
    world.run_pods()
    await world.settle()
    before = json.loads(json.dumps(world.status))
    del world.cluster.objects[TONE]["status"]

    await world.settle()

    assert world.status["phase"] == before["phase"]
    assert world.status["attempts"] == before["attempts"]
    assert len(world.all(JOBS)) == 2


async def test_a_finished_job_that_lost_its_jobs_starts_nothing(world: World) -> None:
    await world.pass_check()
    world.run_pods()
    world.end_job(pod_end(3, failed("gateMissed", "GateMissed", "too bad")))
    await world.settle()
    world.cluster.objects = {
        ref: each for ref, each in world.cluster.objects.items() if ref.resource not in {JOBS, PODS}
    }

    await world.settle()

    assert world.all(JOBS) == []


async def test_what_cannot_be_done_yet_is_refused_before_anything_begins() -> None:
    world = world_with(output={"exports": ["onnx"], "push": {"oci": {"repository": "r.example.com/a"}}})

    await world.settle()

    reason, message = world.ready()
    assert reason == "NotSupported"
    assert "spec.output.exports: onnx" in message
    assert "spec.output.push" in message
    assert world.all(JOBS) == []
    assert "Finished" in {each["type"] for each in world.status["conditions"] if each["status"] == "False"}


MISSING = [
    ({"profile": "tpu"}, "ProfileNotFound", "cpu, gpu"),
    (
        {"dataset": {"train": [{"volume": {"claimName": "absent", "path": "a.jsonl"}}]}},
        "ClaimNotFound",
        "absent",
    ),
    ({"output": {"store": {"claimName": "nowhere"}}}, "ClaimNotFound", "nowhere"),
    ({"model": {"adapterRef": {"name": "earlier"}}}, "AdapterNotReady", "does not exist"),
]


@pytest.mark.parametrize(("spec", "reason", "words"), MISSING)
async def test_what_is_missing_is_named_and_waited_for(spec: Any, reason: str, words: str) -> None:
    world = world_with(**spec)

    result = await world.settle()

    assert world.ready()[0] == reason
    assert words in world.ready()[1]
    assert result.again_in_s == 5
    assert world.all(JOBS) == []


@pytest.mark.parametrize(
    ("resource", "name"),
    [(JOBS, "tone-check-1"), (ADAPTERS, "tone"), (CLAIMS, f"tone-store-{UID[:8]}")],
)
async def test_a_namesake_of_somebody_else_is_left_alone(
    world: World, resource: ApiResource, name: str
) -> None:
    theirs = {"metadata": {"namespace": "team", "name": name, "uid": "theirs"}}
    world.put(resource, theirs)
    controller = FineTuneJobController(world.cluster, SETTINGS, world.desk, world.metrics.jobs)

    await Pass(controller, world.cluster, Metrics(), lambda: world.now).run(TONE, 0)

    assert world.ready()[0] == "NameConflict"
    assert world.cluster.objects[ObjectRef(resource, "team", name)] == theirs


async def test_two_pods_meet_through_a_headless_service() -> None:
    world = world_with(distributed={"nodes": 2, "processesPerNode": 2}, profile="gpu")
    await world.pass_check()

    job, service = world.job(), world.all(SERVICES)[0]
    container = job["spec"]["template"]["spec"]["containers"][0]
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert (job["spec"]["completions"], job["spec"]["parallelism"], job["spec"]["backoffLimit"]) == (2, 2, 0)
    assert environment["FETTLE_MASTER_ADDR"] == f"{job['metadata']['name']}-0.{service['metadata']['name']}"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "2"
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert service["spec"]["selector"].items() <= job["spec"]["template"]["metadata"]["labels"].items()
    world.run_pods()
    await world.settle()
    world.now += timedelta(seconds=10)
    world.end_job(pod_end(0, succeeded()), pod_end(0, outcome("succeeded")), complete=True)
    await world.settle()
    assert world.status["gpuSeconds"] == 40


async def test_a_queue_alone_starts_what_is_queued() -> None:
    world = world_with(scheduling={"queueName": "research"})
    await world.settle()
    check = world.job()
    assert check["spec"]["suspend"] is True
    assert check["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == "research"
    check["spec"]["suspend"] = False
    check["spec"]["template"]["spec"]["nodeSelector"] = {"flavor": "spot"}
    world.cluster.calls.clear()

    await world.settle()

    assert ("patch", "jobs") not in world.cluster.calls


async def test_an_adapter_that_is_refused_fails_the_job(world: World) -> None:
    await world.pass_check()
    world.run_pods()
    world.end_job(pod_end(0, succeeded()), complete=True)
    await world.settle()
    stalled = {
        "type": "Stalled",
        "status": "True",
        "reason": "AdapterRefused",
        "message": "x",
        "lastTransitionTime": "x",
    }
    world.let_adapter_be("AdapterRefused", "False", stalled)

    await world.settle()

    assert world.ready()[0] == "AdapterRefused"
    assert world.status["phase"] == "Failed"


async def test_events_tell_of_each_transition_once(world: World) -> None:
    await world.pass_check()
    world.run_pods()
    await world.settle()
    await world.settle()

    reasons = sorted(event["reason"] for event in world.all(EVENTS))
    assert reasons == ["DatasetValid", "Queued", "Running", "Validating"]


async def test_a_jobs_numbers_are_shown_until_it_is_gone(world: World) -> None:
    await world.pass_check()
    world.run_pods()
    world.pods.answer = json.dumps({"phase": "training", "step": 3, "totalSteps": 20, "loss": 2.0}).encode()
    await world.settle()
    labels = {"target_namespace": "team", "name": "tone"}

    def shown(name: str, **more: str) -> float | None:
        return world.metrics.registry.get_sample_value(f"fettle_finetunejob_{name}", {**labels, **more})

    assert (shown("loss"), shown("step"), shown("attempts")) == (2.0, 3.0, 1.0)
    assert (shown("phase", phase="Running"), shown("phase", phase="Queued")) == (1.0, None)
    world.metrics.jobs.keep_only([])
    assert (shown("loss"), shown("phase", phase="Running")) == (None, None)
