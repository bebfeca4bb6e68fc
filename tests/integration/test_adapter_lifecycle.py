"""An Adapter's life on a real API server, with a real operator process and a stub for the nodes."""

import json
from typing import Any

import pytest

from faults.nodes import Ends, Waits
from faults.rules import Delay, Request, Rule
from faults.stage import DIGEST, Stage, adapter, eventually, serving, verified
from fettle_operator.labels import MANAGED_SELECTOR
from fettle_operator.resources import ADAPTERS, EVENTS, FINETUNEJOBS, INFERENCEDEPLOYMENTS, JOBS, PODS

pytestmark = pytest.mark.apiserver

REFUSED = {
    "outcome": "refused",
    "error": {
        "code": "WeightsNotFinite",
        "message": "tensor q.lora_A has NaN",
        "file": "adapter_model.safetensors",
    },
}


def training(name: str, adapter_name: str) -> dict[str, Any]:
    return {
        "apiVersion": "fettle.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"adapterRef": {"name": adapter_name}},
            "dataset": {"train": [{"volume": {"claimName": "data", "path": "train.jsonl"}}]},
            "method": "lora",
            "profile": "cpu",
            "output": {"store": {"claimName": "store"}, "adapterName": "better"},
        },
    }


def test_an_imported_adapter_is_verified_and_then_left_in_peace(stage: Stage) -> None:
    stage.claim()
    stage.create(ADAPTERS, adapter())
    stage.operator.start()

    stage.await_condition("tuned", "Ready", "Verified")

    found = stage.get(ADAPTERS, "tuned")
    assert found is not None
    assert "finalizers" not in found["metadata"]
    status = found["status"]
    assert status["phase"] == "Ready"
    assert status["digest"] == DIGEST
    assert status["location"] == {"claimName": "store", "path": "adapters/tuned"}
    assert status["observedGeneration"] == 1
    assert [job["metadata"]["name"][:12] for job in stage.jobs()] == ["tuned-verify"]
    # 2 resync periods of 1 s without a write, and the whole life in a known number of them.
    stage.await_quiet(2.5)
    assert [(write.method, write.path.rsplit("/", 1)[-1]) for write in stage.proxy.writes()] == [
        ("POST", "jobs"),
        ("PATCH", "status"),
        ("POST", "events"),
        ("PATCH", "status"),
        ("POST", "events"),
    ]
    watched = [r for r in stage.proxy.requests if r.is_watch and r.path.endswith(("/jobs", "/pods"))]
    assert {r.query.get("labelSelector") for r in watched} == {MANAGED_SELECTOR}, (
        "others' pods cost us nothing"
    )
    assert stage.operator.probe("/healthz") == 200
    assert 'fettle_objects{kind="Adapter"} 1.0' in stage.operator.metrics()
    assert stage.operator.stop() == 0


def test_a_restart_writes_nothing_to_what_is_unchanged(stage: Stage) -> None:
    stage.claim()
    stage.create(ADAPTERS, adapter())
    stage.create(INFERENCEDEPLOYMENTS, serving("chat", "tuned"))
    stage.operator.start()
    stage.await_condition("tuned", "Ready", "Verified")
    stage.await_condition("tuned", "InUse", "InUse")
    stage.await_condition("chat", "Ready", "ControllerNotAvailable", INFERENCEDEPLOYMENTS)
    stage.await_quiet(1.5)
    stage.operator.stop()
    before = len(stage.proxy.writes())
    # Whoever uses the adapter is listed late: until then nobody may be told that nobody does.
    stage.rule(Rule(_lists_deployments, Delay(1), times=1))

    stage.operator.start()
    stage.await_ready_operator()
    stage.await_quiet(2.5)

    assert [str(write) for write in stage.proxy.writes()[before:]] == []


def test_a_wrong_adapter_is_refused_with_the_verifiers_sentence(stage: Stage) -> None:
    stage.nodes.play = lambda _: Ends(2, json.dumps(REFUSED))
    stage.claim()
    stage.create(ADAPTERS, adapter())
    stage.operator.start()

    ready = stage.await_condition("tuned", "Ready", "AdapterRefused")

    assert "adapter_model.safetensors: tensor q.lora_A has NaN (WeightsNotFinite)" in ready["message"]
    assert stage.condition("tuned", "Stalled") is not None
    assert stage.get(ADAPTERS, "tuned")["status"]["phase"] == "Failed"  # type: ignore[index]
    stage.await_quiet(2.5)
    assert len(stage.jobs()) == 1


def test_a_broken_attempt_is_followed_by_others_and_then_by_none(stage: Stage) -> None:
    stage.nodes.play = lambda job: (
        Ends(1) if "hopeless" in job["metadata"]["name"] or _attempt(job) < 3 else verified(job)
    )
    stage.claim()
    stage.create(ADAPTERS, adapter("lucky"))
    stage.create(ADAPTERS, adapter("hopeless"))
    stage.operator.start()

    stage.await_condition("lucky", "Ready", "Verified")
    exhausted = stage.await_condition("hopeless", "Ready", "VerificationExhausted")

    assert "4 attempts broke; the last one: the verifier ended with code 1" in exhausted["message"]
    assert sorted(_attempt(job) for job in stage.jobs() if "lucky" in job["metadata"]["name"]) == [1, 2, 3]
    assert sorted(_attempt(job) for job in stage.jobs() if "hopeless" in job["metadata"]["name"]) == [
        1,
        2,
        3,
        4,
    ]


OBSTACLES: dict[str, tuple[dict[str, Any], str, str]] = {
    "unschedulable": (
        {
            "conditions": [
                _pending := {
                    "type": "PodScheduled",
                    "status": "False",
                    "reason": "Unschedulable",
                    "message": "0/3 nodes are available: 3 Insufficient memory.",
                }
            ]
        },
        "Unschedulable",
        "3 Insufficient memory",
    ),
    "unbound": (
        {"conditions": [{**_pending, "message": "pod has unbound immediate PersistentVolumeClaims"}]},
        "ClaimNotBound",
        "unbound",
    ),
    "pull": (
        {
            "containerStatuses": [
                {
                    "name": "verify",
                    "image": "reg/op:1",
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                    "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}},
                }
            ]
        },
        "ImagePullFailed",
        "reg/op:1",
    ),
}


def test_what_keeps_the_pod_from_running_is_told_in_the_conditions(stage: Stage) -> None:
    def play(job: dict[str, Any]) -> Ends | Waits | None:
        name = job["metadata"]["labels"]["fettle.dev/owner-name"]
        return Waits(OBSTACLES[name][0]) if name in OBSTACLES else None

    stage.nodes.play = play
    stage.claim()
    for name in OBSTACLES:
        stage.create(ADAPTERS, adapter(name))
    stage.create(ADAPTERS, adapter("quota"))
    stage.create(ADAPTERS, adapter("claimless", volume={"claimName": "absent", "path": "."}))
    stage.operator.start()

    for name, (_, reason, words) in OBSTACLES.items():
        assert words in stage.await_condition(name, "Ready", reason)["message"]
        assert stage.condition(name, "Reconciling") is not None
    told = stage.await_condition("claimless", "Ready", "ClaimNotFound")
    assert "PersistentVolumeClaim absent does not exist" in told["message"]
    _refuse_pods_of(stage, "quota")
    assert "exceeded quota: small" in stage.await_condition("quota", "Ready", "QuotaExceeded")["message"]

    stage.claim("absent")
    stage.nodes.play = verified
    stage.await_condition("claimless", "Ready", "Verified")


def test_a_source_that_is_not_supported_says_what_to_do(stage: Stage) -> None:
    stage.create(ADAPTERS, adapter(huggingFace={"repo": "someone/lora"}))
    stage.create(ADAPTERS, adapter("made", fineTuneJob={"name": "sft"}))
    stage.operator.start()

    told = stage.await_condition("tuned", "Ready", "SourceNotSupported")
    other = stage.await_condition("made", "Ready", "SourceNotSupported")

    assert "copy someone/lora into a volume" in told["message"]
    assert "FineTuneJob sft makes its Adapter itself" in other["message"]


def test_kinds_without_a_controller_say_so(stage: Stage) -> None:
    stage.create(INFERENCEDEPLOYMENTS, serving("chat", "tuned"))
    stage.operator.start()

    stage.await_condition("chat", "Ready", "ControllerNotAvailable", INFERENCEDEPLOYMENTS)

    assert stage.get(INFERENCEDEPLOYMENTS, "chat")["status"]["observedGeneration"] == 1  # type: ignore[index]
    stage.await_quiet(2.5)


def test_a_deletion_waits_until_nobody_uses_the_adapter_any_more(stage: Stage) -> None:
    stage.claim()
    stage.create(ADAPTERS, adapter())
    stage.create(INFERENCEDEPLOYMENTS, serving("chat", "tuned"))
    stage.create(FINETUNEJOBS, training("sft", "tuned"))
    stage.operator.start()
    stage.await_condition("tuned", "Ready", "Verified")

    stage.delete(ADAPTERS, "tuned")

    def waits() -> bool:
        condition = stage.condition("tuned", "InUse")
        return bool(condition and condition["message"].startswith("deletion waits"))

    eventually(waits, "the deletion says whom it waits for")
    status = stage.get(ADAPTERS, "tuned")["status"]  # type: ignore[index]
    assert status["phase"] == "Deleting"
    assert status["usedBy"] == [
        {"kind": "FineTuneJob", "name": "sft"},
        {"kind": "InferenceDeployment", "name": "chat"},
    ]
    stage.delete(FINETUNEJOBS, "sft")
    eventually(
        lambda: len(stage.get(ADAPTERS, "tuned")["status"]["usedBy"]) == 1,  # type: ignore[index]
        "one user left",
    )
    stage.delete(INFERENCEDEPLOYMENTS, "chat")
    stage.await_gone(ADAPTERS, "tuned")


def test_an_adapter_that_was_dying_before_the_operator_started_is_let_go(stage: Stage) -> None:
    held = adapter()
    held["metadata"]["finalizers"] = ["fettle.dev/in-use"]
    stage.create(ADAPTERS, held)
    stage.create(INFERENCEDEPLOYMENTS, serving("chat", "tuned"))
    stage.delete(ADAPTERS, "tuned")
    stage.operator.start()

    stage.await_condition("tuned", "InUse", "InUse")
    stage.delete(INFERENCEDEPLOYMENTS, "chat")

    stage.await_gone(ADAPTERS, "tuned")


def test_a_job_that_others_delete_or_edit_is_put_right(stage: Stage) -> None:
    stage.nodes.play = lambda _: None
    stage.claim()
    stage.create(ADAPTERS, adapter())
    stage.operator.start()
    first = eventually(stage.jobs, "the Job exists")[0]
    name = first["metadata"]["name"]

    stage.patch(JOBS, name, {"spec": {"suspend": True}, "metadata": {"labels": {"fettle.dev/attempt": None}}})

    def restored() -> bool:
        job = stage.get(JOBS, name)
        return bool(
            job and not job["spec"]["suspend"] and job["metadata"]["labels"].get("fettle.dev/attempt") == "1"
        )

    eventually(restored, "the Job is as before")
    stage.delete(JOBS, name)
    eventually(
        lambda: (stage.get(JOBS, name) or first)["metadata"]["uid"] != first["metadata"]["uid"], "a new Job"
    )
    stage.nodes.play = verified
    stage.patch(JOBS, name, {"metadata": {"annotations": {"test/wake": "nodes"}}})
    stage.await_condition("tuned", "Ready", "Verified")


def test_a_job_of_somebody_else_with_our_name_is_left_alone(stage: Stage) -> None:
    stage.claim()
    stage.nodes.play = lambda _: None
    made = stage.create(ADAPTERS, adapter())
    stage.operator.start()
    ours = eventually(stage.jobs, "the Job exists")[0]
    stage.operator.stop()
    stage.delete(JOBS, ours["metadata"]["name"])
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "theirs", "image": "theirs"}]}}
    theirs = stage.create(
        JOBS, {"metadata": {"name": ours["metadata"]["name"]}, "spec": {"template": template}}
    )

    stage.operator.start()

    told = stage.await_condition("tuned", "Ready", "NameConflict")
    assert ours["metadata"]["name"] in told["message"]
    untouched = stage.get(JOBS, ours["metadata"]["name"])
    assert untouched is not None
    assert untouched["metadata"]["uid"] == theirs["metadata"]["uid"]
    assert "ownerReferences" not in untouched["metadata"]
    assert made["metadata"]["uid"] not in json.dumps(untouched)


def test_the_pod_of_a_verification_is_restricted(stage: Stage) -> None:
    namespaces = f"/api/v1/namespaces/{stage.namespace}"
    enforce = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    stage.api.request("PATCH", namespaces, enforce, content_type="application/merge-patch+json")
    stage.claim()
    stage.create(ADAPTERS, adapter())
    stage.operator.start()

    stage.await_condition("tuned", "Ready", "Verified")

    spec = stage.items(PODS)[0]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert spec["containers"][0]["volumeMounts"][0]["readOnly"] is True
    assert {"requests", "limits"} <= spec["containers"][0]["resources"].keys()


def _lists_deployments(request: Request) -> bool:
    whole = request.path.endswith(f"/{INFERENCEDEPLOYMENTS.plural}")
    return request.method == "GET" and whole and not request.is_watch


def _attempt(job: dict[str, Any]) -> int:
    return int(job["metadata"]["labels"]["fettle.dev/attempt"])


def _refuse_pods_of(stage: Stage, name: str) -> None:
    """Post the event that the Job controller posts when a quota keeps it from creating pods."""
    job = next(job for job in stage.jobs() if job["metadata"]["labels"]["fettle.dev/owner-name"] == name)
    metadata = job["metadata"]
    event = {
        "metadata": {"name": f"{name}.refused"},
        "involvedObject": {
            "kind": "Job",
            "namespace": stage.namespace,
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "reason": "FailedCreate",
        "type": "Warning",
        "message": 'Error creating: pods "x" is forbidden: exceeded quota: small, requested: pods=1',
        "lastTimestamp": metadata["creationTimestamp"],
    }
    stage.create(EVENTS, event)
