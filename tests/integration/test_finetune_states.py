"""What people and other controllers do to FineTuneJobs and their children in the middle of their lives."""

import json
from typing import Any

import pytest

from faults.nodes import Ends, Play, Runs, Waits
from faults.rules import Answer, Rule, is_write
from faults.stage import Stage, eventually, verified
from fettle_operator.resources import CONFIGMAPS, EVENTS, FINETUNEJOBS, JOBS, ApiResource
from finetune_objects import checked, failed
from finetune_stage import await_phase, end_state, job, lives, phase_of, playing, prepare, told, wake_nodes

pytestmark = pytest.mark.apiserver

QUIET_S = 2.5
"""A bit more than two resync periods of the operators here."""
QUOTAS = ApiResource("", "v1", "resourcequotas", "ResourceQuota")
PENDING = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
}
PHASES = {
    "validating": "Validating",
    "queued": "Queued",
    "running": "Running",
    "evaluating": "Evaluating",
    "suspended": "Suspended",
    "succeeded": "Succeeded",
    "failed": "Failed",
}


def parked() -> Play:
    """Return a play in which every job stays in the phase that its name begins with."""
    first: dict[str, Ends | Runs | Waits] = {
        "queued": Waits({"conditions": [PENDING]}),
        "running": Runs(),
        "suspended": Runs(),
        "failed": Ends(2, failed(code="TemplateMissing", message="no chat template")),
    }

    def play(manifest: dict[str, Any]) -> Ends | Runs | Waits | None:
        name, step, number = manifest["metadata"]["name"].rsplit("-", 2)
        wanted = name.partition("-")[0]
        if step == "check":
            return None if wanted == "validating" else Ends(0, checked())
        if step == "train":
            return first.get(wanted, told(name)) if number == "1" else told(name)
        return None if wanted == "evaluating" else verified(manifest)

    return play


def park(stage: Stage, *names: str) -> None:
    """Bring a job into each of these phases."""
    for name in names:
        stage.create(FINETUNEJOBS, job(name))
    for name in names:
        phase = name.partition("-")[0]
        if phase == "suspended":
            await_phase(stage, name, "Running")
            stage.patch(FINETUNEJOBS, name, {"spec": {"scheduling": {"suspend": True}}})
        await_phase(stage, name, PHASES[phase])


def jobs_made(stage: Stage) -> int:
    return sum(n for (kind, *_), n in stage.witness.counts(("Job",)).items() if kind == "ADDED")


def test_a_suspension_in_any_phase_is_obeyed_and_its_end_goes_on_from_there(stage: Stage) -> None:
    prepare(stage)
    stage.nodes.play = parked()
    names = ("validating", "queued", "running", "evaluating")
    stage.operator.start()
    park(stage, *names)

    for name in names:
        stage.patch(FINETUNEJOBS, name, {"spec": {"scheduling": {"suspend": True}}})
    for name in names:
        await_phase(stage, name, "Suspended")
    stage.await_quiet(QUIET_S)
    stage.nodes.play = lives("good")
    for name in names:
        stage.patch(FINETUNEJOBS, name, {"spec": {"scheduling": {"suspend": False}}})
    wake_nodes(stage)

    attempts = {name: len(await_phase(stage, name, "Succeeded")["attempts"]) for name in names}
    assert attempts == {"validating": 1, "queued": 2, "running": 2, "evaluating": 1}


def test_a_deletion_in_any_phase_is_the_end_of_it(stage: Stage) -> None:
    """Nothing collects garbage here: what must not happen is that anything is made or written again."""
    prepare(stage)
    stage.nodes.play = parked()
    stage.operator.start()
    names = [*PHASES, "running-foreground", "running-orphan"]
    park(stage, *names)
    stage.await_quiet(QUIET_S)
    made, writes = jobs_made(stage), len(stage.proxy.writes())

    for name in names:
        policy = (name.partition("-")[2] or "background").capitalize()
        path = FINETUNEJOBS.path(stage.namespace, name)
        stage.api.request("DELETE", path, {"propagationPolicy": policy})
    stage.await_quiet(QUIET_S)

    gone = [name for name in names if stage.get(FINETUNEJOBS, name) is None]
    assert gone == list(PHASES), "none of ours is waited for; only the collector's own finalizers are"
    assert jobs_made(stage) == made
    # A deletion that is waited for counts as a generation, which status says was seen.
    seen = [write.path.rsplit("/", 2)[1] for write in stage.proxy.writes()[writes:]]
    assert sorted(seen) == ["running-foreground", "running-orphan"]


def test_a_namespace_that_goes_away_is_no_reason_to_try_hard(stage: Stage) -> None:
    prepare(stage)
    stage.nodes.play = parked()
    stage.operator.start()
    park(stage, "running")
    stage.api.request("DELETE", f"/api/v1/namespaces/{stage.namespace}")
    stage.delete(JOBS, "running-train-1")

    told_so = stage.await_condition("running", "Ready", "Forbidden", FINETUNEJOBS)

    assert "being terminated" in told_so["message"]
    tries = len(
        [write for write in stage.proxy.writes() if write.path.endswith("/jobs") and write.code == 403]
    )
    assert tries < 10, "no hot loop"
    assert "Traceback" not in stage.operator.log()


def test_what_a_tenant_forges_changes_nothing(stage: Stage) -> None:
    prepare(stage)
    stage.nodes.play = lives("good")
    stage.operator.start()
    stage.create(FINETUNEJOBS, job("honest"))
    await_phase(stage, "honest", "Succeeded")
    stage.await_quiet(1)
    forged = job("forged")
    handled = json.dumps({"spec": {}})
    forged["metadata"]["annotations"] = {
        "kopf.zalando.org/last-handled-configuration": handled,
        "kopf.zalando.org/touch-dummy": "2026-01-01T00:00:00",
        "fettle.dev/template-hash": "x",
    }
    forged["metadata"]["labels"] = {"fettle.dev/owner-uid": "somebody", "fettle.dev/attempt": "7"}
    forged["metadata"]["finalizers"] = ["example.com/mine"]
    forged["status"] = {"phase": "Succeeded", "attempts": [], "adapter": {"name": "evil"}}
    stage.create(FINETUNEJOBS, forged)

    await_phase(stage, "forged", "Succeeded")
    stage.await_quiet(1)
    assert end_state(stage, "forged") == end_state(stage, "honest")
    stage.delete(FINETUNEJOBS, "forged")
    stage.await_quiet(QUIET_S)
    assert stage.get(FINETUNEJOBS, "forged")["metadata"]["finalizers"] == ["example.com/mine"]  # type: ignore[index]


def test_what_others_do_to_children_is_undone_or_does_no_harm(stage: Stage) -> None:
    prepare(stage)
    stage.nodes.play = parked()
    stage.operator.start()
    park(stage, "running", "running-2")

    stage.patch(JOBS, "running-train-1", {"spec": {"suspend": True}})
    eventually(lambda: not (stage.get(JOBS, "running-train-1") or {})["spec"]["suspend"], "it goes on")
    for each in stage.items(CONFIGMAPS):
        if each["metadata"].get("labels", {}).get("fettle.dev/owner-name") == "running-2":
            stage.delete(CONFIGMAPS, each["metadata"]["name"])
    stage.nodes.play = playing(lambda name, attempt: Ends(1, failed()) if attempt == 1 else told(name))
    wake_nodes(stage)

    for name in ("running", "running-2"):
        assert len(await_phase(stage, name, "Succeeded")["attempts"]) == 2
    used = stage.get(JOBS, "running-2-train-2")["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"]  # type: ignore[index]
    assert stage.get(CONFIGMAPS, used) is not None, "the next attempt's configuration was made again"


def test_a_quota_on_jobs_is_told_and_heals_when_it_is_lifted(stage: Stage) -> None:
    prepare(stage)
    stage.nodes.play = lives("good")
    hard = {"count/jobs.batch": "0"}
    stage.create(QUOTAS, {"metadata": {"name": "none"}, "spec": {"hard": hard}})
    # There is no controller here that would count.
    stage.patch(QUOTAS, "none", {"status": {"hard": hard, "used": hard}}, "status")
    stage.operator.start()
    stage.create(FINETUNEJOBS, job())

    told_so = stage.await_condition("tone", "Ready", "QuotaExceeded", FINETUNEJOBS)
    assert "exceeded quota: none" in told_so["message"]
    writes = [write for write in stage.proxy.writes() if "finetunejobs" in write.path]
    assert len(writes) <= 3, "the status does not flap"

    stage.delete(QUOTAS, "none")
    await_phase(stage, "tone", "Succeeded")


WAITING: dict[str, tuple[dict[str, Any], str, str]] = {
    "gpus": ({"conditions": [PENDING]}, "Unschedulable", "3 Insufficient nvidia.com/gpu"),
    "unbound": (
        {"conditions": [{**PENDING, "message": "pod has unbound immediate PersistentVolumeClaims"}]},
        "ClaimNotBound",
        "unbound immediate",
    ),
    "pull": (
        {
            "containerStatuses": [
                {
                    "name": "trainer",
                    "image": "registry/trainer:1",
                    "imageID": "",
                    "ready": False,
                    "restartCount": 0,
                    "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}},
                }
            ]
        },
        "ImagePullFailed",
        "image registry/trainer:1: ErrImagePull: not found",
    ),
    "quota": ({}, "QuotaExceeded", "exceeded quota: small"),
    "mount": ({}, "VolumeNotMounted", "MountVolume.SetUp failed"),
}


def test_what_an_attempt_waits_for_is_told_whoever_knows_it(stage: Stage) -> None:
    """By the pod's status, by an event about the pod, or by one about the Job that gets no pod."""

    def train(name: str, _: int) -> Waits | None:
        return None if name == "quota" else Waits(WAITING[name][0])

    prepare(stage)
    stage.nodes.play = playing(train)
    stage.operator.start()
    for name in WAITING:
        stage.create(FINETUNEJOBS, job(name))
    for name in ("quota", "mount"):
        await_phase(stage, name, "Queued")
    no_pod = eventually(lambda: stage.get(JOBS, "quota-train-1"), "the Job")
    pod = eventually(
        lambda: next(
            iter(seen.manifest for seen in list(stage.witness.history) if _is_pod_of(seen, "mount")), None
        ),
        "the pod",
    )
    _warn(
        stage,
        no_pod,
        "Job",
        "FailedCreate",
        'pods "x" is forbidden: exceeded quota: small, requested: pods=1',
    )
    _warn(stage, pod, "Pod", "FailedMount", "MountVolume.SetUp failed for volume claim-0")

    for name, (_, reason, words) in WAITING.items():
        assert words in stage.await_condition(name, "Ready", reason, FINETUNEJOBS)["message"]
        assert stage.condition(name, "Reconciling", FINETUNEJOBS) is not None
        assert phase_of(stage, name) == "Queued"


def _is_pod_of(seen: Any, name: str) -> bool:
    return bool(seen.kind == "Pod" and seen.name.startswith(f"{name}-train-1"))


def _warn(stage: Stage, about: dict[str, Any], kind: str, reason: str, message: str) -> None:
    metadata = about["metadata"]
    event = {
        "metadata": {"name": f"{metadata['name']}.1"},
        "involvedObject": {
            "kind": kind,
            "namespace": stage.namespace,
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "reason": reason,
        "type": "Warning",
        "message": message,
        "lastTimestamp": metadata["creationTimestamp"],
    }
    stage.create(EVENTS, event)


def test_a_change_between_the_first_attempt_and_its_job_is_refused(stage: Stage) -> None:
    """The attempt stands in status before its Job is made: from then on the spec is what that Job is made from."""
    prepare(stage)
    stage.nodes.play = playing(lambda *_: Runs())
    held = stage.rule(
        Rule(lambda r: is_write(r) and b"tone-train-1" in r.body and r.path.endswith("/jobs"), Answer(503))
    )
    stage.create(FINETUNEJOBS, job())
    stage.operator.start()
    eventually(
        lambda: (stage.get(FINETUNEJOBS, "tone") or {}).get("status", {}).get("attempts"),
        "the attempt has begun",
    )

    with pytest.raises(Exception, match="is fixed once the first attempt has started"):
        stage.patch(FINETUNEJOBS, "tone", {"spec": {"method": "dora"}})

    stage.patch(FINETUNEJOBS, "tone", {"spec": {"scheduling": {"retries": 7}}})
    held.times = 0
    await_phase(stage, "tone", "Running")
