"""The pure parts of FineTuneJob: what a cause leads to, what a pod says, what a pod is made of, what the trainer is told."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fettle_operator.api.finetunejob import FineTuneJob
from fettle_operator.finetune.checking import Broken, Checked, Rejected
from fettle_operator.finetune.checking import finding_of as check_finding
from fettle_operator.finetune.children import job_name, rendezvous_name, step_of
from fettle_operator.finetune.configuration import run_config
from fettle_operator.finetune.desired import Run, check_job, config_map, store, train_job
from fettle_operator.finetune.endings import Cause, Ending, ending_of_attempt
from fettle_operator.finetune.ledger import Ledger, Shape
from fettle_operator.finetune.progress import Desk, is_past_training, progress_fields
from fettle_operator.finetune.retries import Spent, decide, halved
from fettle_operator.finetune.sources import Start, start_of
from fettle_operator.jobs import Attempt
from fettle_operator.pods import Obstacle
from fettle_trainer.config.outcome import Outcome
from fettle_trainer.config.progress import ProgressReport
from finetune_objects import (
    NOW,
    SETTINGS,
    checked,
    failed,
    finetunejob,
    outcome,
    pod_end,
    pod_of,
    rejected,
    succeeded,
)
from spec_table import FULL_SPECS, MINIMAL_SPECS

VOLUME = Start({"volume": {"claimName": "models", "path": "tiny"}})


def whole(**spec: Any) -> dict[str, Any]:
    """Return a job as the controller sees it: with the schema's defaults."""
    live = finetunejob(**spec)
    return {**live, "spec": FineTuneJob.read(live).spec.manifest()}


def run_of(profile: str = "cpu", start: Start = VOLUME, **spec: Any) -> Run:
    return Run(whole(profile=profile, **spec), start, SETTINGS.profiles[profile], SETTINGS)


def ended(*statuses: dict[str, Any], kind: str = "Failed", nodes: int = 1) -> Ending | None:
    """Return how an attempt ended whose pods are in these statuses."""
    job = train_job(run_of(distributed={"nodes": nodes}), 1)
    job["metadata"]["uid"] = "job-1"
    condition = {"type": kind, "status": "True", "reason": "X", "lastTransitionTime": "2026-01-01T12:01:00Z"}
    job["status"] = {"conditions": [condition]}
    pods = tuple(pod_of(job, index, **status) for index, status in enumerate(statuses))
    return ending_of_attempt(Attempt(1, job, pods))


TARGETED = {"type": "DisruptionTarget", "status": "True", "message": "preempted by scheduler"}
ENDINGS: dict[str, tuple[list[dict[str, Any]], str, Cause, str]] = {
    "done": ([pod_end(0, succeeded())], "Complete", Cause.DONE, ""),
    "done without a word": ([pod_end(0, "")], "Complete", Cause.NO_WORDS, "no readable outcome"),
    "done with half a word": ([pod_end(0, '{"outcome": "su')], "Complete", Cause.NO_WORDS, ""),
    "wrong input": ([pod_end(2, failed(message="no template"))], "Failed", Cause.WRONG_INPUT, "no template"),
    "gate": (
        [pod_end(3, failed("gateMissed", "GateMissed", "too bad"))],
        "Failed",
        Cause.GATE_MISSED,
        "too bad",
    ),
    "stopped": ([pod_end(85, outcome("stopped"))], "Failed", Cause.STOPPED, "told to stop"),
    "out of memory": ([pod_end(86, "")], "Failed", Cause.OUT_OF_MEMORY, "more memory"),
    "killed for memory": ([pod_end(137, reason="OOMKilled")], "Failed", Cause.OUT_OF_MEMORY, ""),
    "preempted": ([pod_end(143, conditions=[TARGETED])], "Failed", Cause.DISRUPTED, "preempted by scheduler"),
    "preempted in mid-sentence": ([pod_end(2, "", conditions=[TARGETED])], "Failed", Cause.DISRUPTED, ""),
    "evicted": (
        [{"phase": "Failed", "reason": "Evicted", "message": "low on disk"}],
        "Failed",
        Cause.DISRUPTED,
        "low on disk",
    ),
    "gone": ([], "Failed", Cause.POD_LOST, "is gone"),
    "crashed": ([pod_end(1, failed(message="CUDA error"))], "Failed", Cause.BROKEN, "CUDA error"),
    "store full": (
        [pod_end(1, failed(code="StorageFull", message="no space is left"))],
        "Failed",
        Cause.STORAGE_FULL,
        "no space is left",
    ),
    "killed": ([pod_end(137)], "Failed", Cause.BROKEN, "without a word"),
    "second pod evicted, first fails for want of it": (
        [pod_end(1, failed(message="lost a peer")), pod_end(143, conditions=[TARGETED])],
        "Failed",
        Cause.DISRUPTED,
        "preempted",
    ),
    "second pod has wrong input": (
        [pod_end(1, failed(message="lost a peer")), pod_end(2, failed(message="row 7"))],
        "Failed",
        Cause.WRONG_INPUT,
        "row 7",
    ),
    "second pod gone": ([pod_end(85, outcome("stopped"))], "Failed", Cause.STOPPED, ""),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_an_end_has_one_cause(name: str) -> None:
    statuses, kind, cause, words = ENDINGS[name]

    found = ended(*statuses, kind=kind, nodes=max(1, len(statuses)))

    assert found is not None
    assert found.cause is cause
    assert words in found.message


def test_an_attempt_has_not_ended_while_a_process_may_run() -> None:
    assert ended(pod_end(85, outcome("stopped")), {"phase": "Running"}, nodes=2) is None
    assert ended({"phase": "Unknown"}) is None, "a node that does not answer may still be writing"


SPENT = Spent(failed=1, halvings=0, micro_batch=8)
DECISIONS = [
    (Cause.DONE, SPENT, "Succeeded"),
    (Cause.WRONG_INPUT, SPENT, "InputRefused"),
    (Cause.GATE_MISSED, SPENT, "GateMissed"),
    (Cause.DISRUPTED, Spent(99, 0, None), None),
    (Cause.STOPPED, Spent(99, 0, None), None),
    (Cause.POD_LOST, Spent(99, 0, None), None),
    (Cause.BROKEN, Spent(3, 0, None), None),
    (Cause.BROKEN, Spent(4, 0, None), "RetriesExhausted"),
    (Cause.STORAGE_FULL, Spent(3, 0, None), None),
    (Cause.STORAGE_FULL, Spent(4, 0, None), "StorageFull"),
    (Cause.NO_WORDS, Spent(4, 0, None), "RetriesExhausted"),
    (Cause.OUT_OF_MEMORY, Spent(99, 2, 8), None),
    (Cause.OUT_OF_MEMORY, Spent(0, 3, 8), "OutOfMemory"),
    (Cause.OUT_OF_MEMORY, Spent(0, 0, 1), "OutOfMemory"),
    (Cause.OUT_OF_MEMORY, Spent(0, 0, None), None),
]


@pytest.mark.parametrize(("cause", "spent", "verdict"), DECISIONS)
def test_the_cause_decides_what_follows(cause: Cause, spent: Spent, verdict: str | None) -> None:
    assert decide(cause, "told", spent, retries=3).verdict == verdict


@pytest.mark.parametrize(("before", "after"), [(8, 4), (6, 3), (9, 3), (7, 1), (3, 1), (2, 1)])
def test_half_a_micro_batch_still_divides_the_batch(before: int, after: int) -> None:
    assert halved(before) == after


def test_the_cost_of_an_attempt_is_counted_by_its_checkpoint() -> None:
    began = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)
    shape = Shape(4, "image")
    ledger = Ledger().opened(1, "tone-train-1", None).started(began, ["b", "a", "a"], shape)
    last = Outcome.model_validate({"outcome": "failed", "step": 50, "checkpointStep": 40, "saveSeconds": 90})

    closed = ledger.closed(Ending(Cause.BROKEN, "x", 1, last, began + timedelta(seconds=100)), shape, {})

    entry = closed.entries[0]
    assert (entry["seconds"], entry["lostSeconds"], entry["nodes"]) == (100, 20, ["a", "b"])
    assert (closed.gpu_s, closed.lost_s, closed.failed, closed.active_s) == (400, 20, 1, 100)
    assert closed.grace_s == 210, "twice as long as saving took, and some more"
    assert closed.opened(2, "tone-train-2", None).entries[1]["firstStep"] == 40
    assert Ledger.read(closed.status()) == closed


def test_what_a_killed_attempt_could_not_say_its_successor_tells() -> None:
    began, shape = datetime(2026, 1, 1, 12, 0, tzinfo=UTC), Shape(0, "image")
    ledger = Ledger().opened(1, "tone-train-1", None).started(began, [], shape)
    killed = ledger.closed(
        Ending(Cause.BROKEN, "x", 137, None, began + timedelta(seconds=100)), shape, {"step": 50}
    )
    assert killed.lost_s == 100, "as long as nothing else is known"

    resumed = killed.opened(2, "tone-train-2", None).resumed_at(40)

    first, second = resumed.entries
    assert (first["checkpointStep"], first["lostSeconds"], resumed.lost_s) == (40, 20, 20)
    assert second["firstStep"] == 40
    assert resumed.resumed_at(40) == resumed


def test_where_an_attempt_really_went_on_corrects_what_was_believed() -> None:
    """The newest checkpoint was damaged, or the stopped attempt could say nothing of the one it saved."""
    stopped = (
        Ledger()
        .opened(1, "tone-train-1", None)
        .closed(Ending(Cause.STOPPED, "stopped", 85, None, NOW), Shape(0, ""), {"step": 0})
    )
    believed = stopped.opened(2, "tone-train-2", None)
    assert believed.entries[-1]["firstStep"] == 0

    first, second = believed.resumed_at(10).entries

    assert (first["checkpointStep"], first["lastStep"], second["firstStep"]) == (10, 10, 10)


def test_only_the_newest_attempts_are_listed_and_all_are_counted() -> None:
    ledger = Ledger()
    for number in range(1, 30):
        ledger = ledger.opened(number, f"tone-train-{number}", None)
        ledger = ledger.closed(Ending(Cause.BROKEN, "x", 1, None, NOW), Shape(0, ""), {})

    assert (len(ledger.entries), ledger.count, ledger.failed) == (16, 29, 29)
    assert ledger.entries[-1]["number"] == 29


def fetch_end(code: int, message: str) -> dict[str, Any]:
    """Return the status of a pod whose first step failed: the check never ran."""
    ended = {"name": "fetch", "state": {"terminated": {"exitCode": code, "message": message}}}
    waits = {"name": "trainer", "state": {"waiting": {"reason": "PodInitializing"}}}
    return {"phase": "Failed", "initContainerStatuses": [ended], "containerStatuses": [waits]}


@pytest.mark.parametrize(
    ("status", "found"),
    [
        (pod_end(0, checked()), Checked),
        (pod_end(2, rejected()), Rejected),
        (pod_end(2, failed(code="ConfigInvalid", message="colour: unknown")), Rejected),
        (pod_end(0, "cut of"), Broken),
        (pod_end(1), Broken),
        (pod_end(137, reason="OOMKilled"), Broken),
        (fetch_end(2, failed(code="ModelMissing", message="no such model")), Rejected),
        (fetch_end(1, failed(code="HubUnreachable", message="no way there")), Broken),
        ({"phase": "Failed", "reason": "Evicted"}, Broken),
    ],
)
def test_a_check_finds_the_data_good_or_bad_or_nothing(status: dict[str, Any], found: type) -> None:
    job = check_job(run_of(), 1)
    job["metadata"]["uid"] = "job-1"
    condition = {"type": "Failed", "status": "True", "lastTransitionTime": "2026-01-01T12:00:00Z"}
    job["status"] = {"conditions": [condition]}

    assert isinstance(check_finding(Attempt(1, job, (pod_of(job, **status),))), found)


def test_a_childs_step_is_read_from_its_name_alone() -> None:
    live = finetunejob("tone-train-7")

    assert step_of(live, {"metadata": {"name": job_name(live, "check", 3)}}) == "check"
    assert step_of(live, {"metadata": {"name": "tone-train-7"}}) is None
    assert step_of(live, {"metadata": {"name": "other-train-1"}}) is None


def test_names_leave_room_for_the_index_of_a_pod() -> None:
    live = finetunejob("a" * 45)

    assert len(job_name(live, "train", 999) + "-63") <= 63
    assert len(rendezvous_name(live)) <= 63


@pytest.mark.parametrize("spec", [MINIMAL_SPECS["FineTuneJob"], *FULL_SPECS["FineTuneJob"]])
def test_every_spec_becomes_a_configuration_that_the_trainer_takes(spec: dict[str, Any]) -> None:
    live = finetunejob()
    live["spec"] = FineTuneJob.read({**live, "spec": spec}).spec.manifest()
    start = start_of(live, None)
    config = run_config(live, VOLUME if isinstance(start, Obstacle) else start, None, 60)

    assert config.output.adapter_name == (spec.get("output") or {}).get("adapterName", "tone")
    assert config.output.work_directory == f"{config.output.directory}/.fettle/runs/{live['metadata']['uid']}"
    assert config.tracking.progress_port == 9400
    assert config.model.name is None or not config.model.name.startswith("/"), "no path of the pod"
    for source in (*config.dataset.train, *config.dataset.validation):
        assert source.path is None or source.path.startswith(f"{source.root}")


def secrets_in(container: dict[str, Any], pod: dict[str, Any]) -> set[str]:
    volumes = {each["name"]: each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each}
    return {volumes[each["name"]] for each in container["volumeMounts"] if each["name"] in volumes}


def test_a_token_is_a_file_of_the_step_that_needs_it_and_of_no_other() -> None:
    token, other = {"name": "hub", "key": "token"}, {"name": "mlflow", "key": "token"}
    hub = {"huggingFace": {"repo": "team/base", "tokenSecretRef": token}}
    data = {"train": [{"huggingFace": {"repo": "team/data", "tokenSecretRef": {**token, "name": "data"}}}]}
    tracking = {"mlflow": {"trackingUri": "https://mlflow.example.com", "tokenSecretRef": other}}
    run = run_of(start=Start(hub), model=hub, dataset=data, tracking=tracking)

    pod = check_job(run, 1)["spec"]["template"]["spec"]
    training = train_job(run, 1)["spec"]["template"]["spec"]

    fetch, check = pod["initContainers"][0], pod["containers"][0]
    assert fetch["args"][0] == "fetch"
    assert (secrets_in(fetch, pod), secrets_in(check, pod)) == ({"hub", "data"}, set())
    assert "initContainers" not in training
    assert secrets_in(training["containers"][0], training) == {"mlflow"}
    config = json.loads(config_map(run)["data"]["run.json"])
    file = config["model"]["huggingFace"]["tokenFile"]
    mount = next(each for each in fetch["volumeMounts"] if file.startswith(each["mountPath"] + "/"))
    volume = next(each for each in pod["volumes"] if each["name"] == mount["name"])
    assert mount["readOnly"] is True
    assert volume["secret"] == {
        "secretName": "hub",
        "defaultMode": 0o440,
        "items": [{"key": "token", "path": "token"}],
    }
    assert "valueFrom" not in json.dumps([pod, training])
    assert "envFrom" not in json.dumps([pod, training])
    assert "initContainers" not in check_job(run_of(), 1)["spec"]["template"]["spec"]


def test_pods_are_hardened_and_take_from_users_only_what_is_typed() -> None:
    scheduling = {
        "nodeSelector": {"gpu": "no", "disk": "fast"},
        "tolerations": [{"key": "spot", "operator": "Exists"}],
        "priorityClassName": "low",
    }
    run = run_of(
        "gpu",
        scheduling=scheduling,
        resources={"requests": {"memory": "64Gi"}},
        distributed={"processesPerNode": 2},
    )

    pod = train_job(run, 1)["spec"]["template"]["spec"]
    container = pod["containers"][0]

    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["nodeSelector"] == {"gpu": "yes", "disk": "fast"}, "the administrator's word is the last"
    assert [each["key"] for each in pod["tolerations"]] == ["nvidia.com/gpu", "spot"]
    assert container["resources"]["requests"] == {"memory": "64Gi", "nvidia.com/gpu": "2"}
    environment = {each["name"]: each["value"] for each in container["env"]}
    assert environment["HF_ENDPOINT"] == "https://mirror.example.com"
    assert environment["TORCH_NCCL_ASYNC_ERROR_HANDLING"] == "1"
    shm = next(each for each in pod["volumes"] if each["name"] == "shm")
    assert shm["emptyDir"] == {"medium": "Memory", "sizeLimit": "8Gi"}


@pytest.mark.parametrize(
    ("placement", "key"), [("spread", "topologySpreadConstraints"), ("pack", "affinity"), ("any", None)]
)
def test_pods_that_work_together_are_placed_as_the_profile_wishes(placement: str, key: str | None) -> None:
    profile = SETTINGS.profiles["cpu"].model_copy(update={"placement": placement})
    together = Run(whole(distributed={"nodes": 2}), VOLUME, profile, SETTINGS)
    alone = Run(whole(), VOLUME, profile, SETTINGS)

    template = train_job(together, 1)["spec"]["template"]

    found = {"topologySpreadConstraints", "affinity"} & template["spec"].keys()
    assert found == ({key} if key else set())
    assert (
        not {"topologySpreadConstraints", "affinity"} & train_job(alone, 1)["spec"]["template"]["spec"].keys()
    )
    if placement == "spread":
        selector = template["spec"]["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]
        assert selector.items() <= template["metadata"]["labels"].items()


def test_the_check_stands_where_the_training_will_and_asks_for_no_gpu() -> None:
    run = run_of("gpu")

    pod = check_job(run, 1)["spec"]["template"]["spec"]

    assert pod["nodeSelector"] == {"gpu": "yes"}, "a volume may bind to the node of its first user"
    assert "nvidia.com/gpu" not in json.dumps(pod["containers"][0]["resources"])


@pytest.mark.parametrize(
    ("profile", "more", "told"),
    [
        ("cpu", {}, []),
        ("gpu", {}, []),
        (
            "gpu",
            {"gpu_model": "NVIDIA H200", "gpu_memory": "141Gi"},
            ["--gpu", "NVIDIA H200", "--gpu-memory", "141"],
        ),
    ],
)
def test_the_check_is_told_what_the_run_will_compute_on(
    profile: str, more: dict[str, str], told: list[str]
) -> None:
    known = SETTINGS.profiles[profile].model_copy(update=more)
    run = Run(whole(profile=profile), VOLUME, known, SETTINGS)

    arguments = check_job(run, 1)["spec"]["template"]["spec"]["containers"][0]["args"]

    assert arguments[arguments.index("--report") + 2 : arguments.index("--termination-log")] == told


@pytest.mark.parametrize(
    ("wished", "requests", "limits"),
    [
        ({}, "2Gi", "8Gi"),
        ({"requests": {"memory": "16Gi"}}, "16Gi", "16Gi"),
        ({"limits": {"memory": "1Gi"}}, "1Gi", "1Gi"),
        ({"requests": {"memory": "1Gi"}, "limits": {"memory": "3Gi"}}, "1Gi", "3Gi"),
    ],
)
def test_amounts_never_contradict_each_other(wished: Any, requests: str, limits: str) -> None:
    resources = train_job(run_of(resources=wished), 1)["spec"]["template"]["spec"]["containers"][0][
        "resources"
    ]

    assert (resources["requests"]["memory"], resources["limits"]["memory"]) == (requests, limits)


def test_a_store_outlives_its_job_unless_it_was_asked_not_to() -> None:
    kept = store(whole())
    gone = store(whole(output={"store": {"deleteWithJob": True, "size": "5Gi", "storageClassName": "fast"}}))

    assert "ownerReferences" not in kept["metadata"]
    assert kept["spec"] == {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "20Gi"}}}
    assert gone["metadata"]["ownerReferences"][0]["kind"] == "FineTuneJob"
    assert gone["spec"]["storageClassName"] == "fast"


def test_going_on_from_an_adapter_takes_its_base_and_its_place() -> None:
    live = whole(model={"adapterRef": {"name": "earlier"}})
    ready = {"type": "Ready", "status": "True", "reason": "Verified", "message": ""}
    place = {"claimName": "store", "path": "earlier/sha256-1"}
    earlier = {
        "spec": {"baseModel": {"huggingFace": {"repo": "team/base"}}},
        "status": {"conditions": [ready], "location": place},
    }

    start = start_of(live, earlier)
    assert isinstance(start, Start)
    config = run_config(live, start, None, 60)
    assert config.model.adapter == "/claims/store/earlier/sha256-1"
    assert config.model.hugging_face is not None
    waits = start_of(live, {**earlier, "status": {"conditions": [{**ready, "status": "False"}]}})
    assert isinstance(waits, Obstacle)


async def test_the_more_jobs_run_the_less_often_each_is_asked() -> None:
    class Silent:
        async def read(self, address: str) -> bytes | None:  # noqa: ARG002 - the port's
            return None

    desk = Desk(Silent())
    for number in range(100):
        await desk.of(f"job-{number}", "10.0.0.1", NOW)

    assert desk.period_s == 20


@pytest.mark.parametrize(
    ("report", "past"),
    [
        ({"phase": "training", "step": 20, "totalSteps": 20}, False),
        ({"phase": "evaluating", "step": 10, "totalSteps": 20}, False),
        ({"phase": "evaluating", "step": 20, "totalSteps": 20}, True),
        ({"phase": "evaluating"}, True),
        ({"phase": "exporting", "step": 12, "totalSteps": 20}, True),
        ({"phase": "preparing"}, False),
    ],
)
def test_evaluation_during_the_training_is_training(report: dict[str, Any], past: bool) -> None:
    assert is_past_training(ProgressReport.model_validate(report), {}) is past


@pytest.mark.parametrize(("step", "past"), [(9, False), (10, True)])
def test_while_nobody_answers_the_known_steps_tell_whether_the_training_is_over(
    step: int, past: bool
) -> None:
    known = {"step": step, "totalSteps": 10}
    assert is_past_training(None, known) is past
    assert is_past_training(ProgressReport(phase="preparing"), known) is past
    assert not is_past_training(None, {})


def test_a_process_that_knows_no_steps_does_not_wipe_them_out() -> None:
    before = {"step": 20, "totalSteps": 20}

    assert progress_fields(ProgressReport(phase="evaluating"), before) == before
