"""A FineTuneJob's life on a real API server, with a real operator process and a stub for the nodes."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from faults.nodes import Ends, Runs, Waits
from faults.stage import DIGEST, Stage, eventually
from fettle_operator.resources import (
    ADAPTERS,
    CLAIMS,
    CONFIGMAPS,
    FINETUNEJOBS,
    JOBS,
    PODS,
    SERVICES,
)
from finetune_objects import failed, rejected
from finetune_stage import await_phase, end_state, job, lives, phase_of, playing, prepare, told

pytestmark = pytest.mark.apiserver

QUIET_S = 2.5
"""A bit more than two resync periods of the operators here."""


def test_a_job_becomes_an_adapter_in_a_known_number_of_writes_and_is_then_left_in_peace(stage: Stage) -> None:
    prepare(stage)
    stage.nodes.play = lives("good")
    stage.create(FINETUNEJOBS, job())
    stage.operator.start()

    status = await_phase(stage, "tone", "Succeeded")

    assert stage.await_condition("tone", "Ready", "Succeeded", FINETUNEJOBS)["status"] == "True"
    assert status["adapter"]["digest"] == DIGEST
    assert status["observedGeneration"] == 1
    made = stage.get(ADAPTERS, "tone")
    assert made is not None
    assert made["status"]["phase"] == "Ready"
    assert made["status"]["producedBy"]["name"] == "tone"
    stage.await_quiet(QUIET_S)
    ours = [write for write in stage.proxy.writes() if "/adapters/tone" not in write.path]
    assert len(ours) <= 20, [str(write) for write in ours]
    before = len(stage.proxy.writes())
    stage.operator.stop()
    stage.operator.start()
    stage.await_ready_operator()
    stage.await_quiet(QUIET_S)
    assert [str(write) for write in stage.proxy.writes()[before:]] == []
    assert "Traceback" not in stage.operator.log()


def test_everything_but_the_store_goes_with_the_job(stage: Stage) -> None:
    stage.claim("models")
    stage.nodes.play = lives("good")
    made = stage.create(FINETUNEJOBS, job(output={}, distributed={"nodes": 2}))
    stage.operator.start()
    await_phase(stage, "tone", "Succeeded")

    uid = made["metadata"]["uid"]
    for resource in (JOBS, CONFIGMAPS, SERVICES, ADAPTERS):
        ours = [
            each
            for each in stage.items(resource)
            if "fettle.dev/owner-uid" in each["metadata"].get("labels", {})
        ]
        owners = {
            reference["uid"]
            for each in ours
            if each["metadata"]["labels"]["fettle.dev/owner-kind"] == "FineTuneJob"
            for reference in each["metadata"]["ownerReferences"]
        }
        assert owners == {uid}, resource
    kept = [each for each in stage.items(CLAIMS) if each["metadata"]["name"].startswith("tone-store-")]
    assert len(kept) == 1
    assert "ownerReferences" not in kept[0]["metadata"]
    assert kept[0]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_wrong_data_is_told_with_file_and_line_and_nothing_trains(stage: Stage) -> None:
    prepare(stage)
    stage.nodes.play = lambda _: Ends(2, rejected())
    stage.create(FINETUNEJOBS, job())
    stage.operator.start()

    ready = stage.await_condition("tone", "Ready", "DatasetInvalid", FINETUNEJOBS)

    assert "/configmaps/rows/train.jsonl:7" in ready["message"]
    stage.await_quiet(QUIET_S)
    assert [each["metadata"]["name"] for each in stage.jobs()] == ["tone-check-1"]


def test_what_keeps_an_attempt_waiting_is_told_with_the_number_of_pods(stage: Stage) -> None:
    pending = {
        "type": "PodScheduled",
        "status": "False",
        "reason": "Unschedulable",
        "message": "0/3 nodes are available: 3 Insufficient nvidia.com/gpu.",
    }
    prepare(stage)
    stage.nodes.play = playing(lambda *_: Waits({"conditions": [pending]}))
    stage.create(FINETUNEJOBS, job(distributed={"nodes": 2}))
    stage.operator.start()

    told_so = stage.await_condition("tone", "Ready", "Unschedulable", FINETUNEJOBS)

    assert told_so["message"] == "2 of 2 pods wait: 0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    assert phase_of(stage, "tone") == "Queued"


def test_progress_is_read_from_the_first_pod(stage: Stage) -> None:
    with serving_progress("127.94.0.1", {"phase": "training", "step": 3, "totalSteps": 20, "loss": 2.5}):
        prepare(stage)
        stage.nodes.play = playing(lambda *_: Runs("127.94.0.1"))
        stage.create(FINETUNEJOBS, job())
        stage.operator.start()

        def reported() -> Any:
            return (stage.get(FINETUNEJOBS, "tone") or {}).get("status", {}).get("progress")

        assert eventually(reported, "progress")["step"] == 3
        assert phase_of(stage, "tone") == "Running"


def test_a_suspension_frees_the_pods_and_its_end_goes_on_with_the_next_attempt(stage: Stage) -> None:
    prepare(stage)
    stage.nodes.play = playing(lambda name, attempt: Runs() if attempt == 1 else told(name))
    stage.create(FINETUNEJOBS, job())
    stage.operator.start()
    await_phase(stage, "tone", "Running")

    stage.patch(FINETUNEJOBS, "tone", {"spec": {"scheduling": {"suspend": True}}})

    await_phase(stage, "tone", "Suspended")
    stage.await_gone(JOBS, "tone-train-1")
    eventually(
        lambda: not [pod for pod in stage.items(PODS) if "train" in pod["metadata"]["name"]], "no pods"
    )
    stage.await_quiet(QUIET_S)
    stage.patch(FINETUNEJOBS, "tone", {"spec": {"scheduling": {"suspend": False}}})
    status = await_phase(stage, "tone", "Succeeded")
    assert [each["outcome"] for each in status["attempts"]] == ["Stopped", "Succeeded"]


def test_the_spec_is_fixed_by_the_first_attempt_and_free_before_it(stage: Stage) -> None:
    prepare(stage)
    stage.nodes.play = lambda _: None
    stage.create(FINETUNEJOBS, job())
    stage.operator.start()
    await_phase(stage, "tone", "Validating")
    stage.patch(FINETUNEJOBS, "tone", {"spec": {"training": {"maxSteps": 5}}})
    stage.nodes.play = playing(lambda *_: Runs())
    stage.patch(JOBS, "tone-check-1", {"metadata": {"annotations": {"test/wake": "nodes"}}})
    await_phase(stage, "tone", "Running")

    with pytest.raises(Exception, match="is fixed once the first attempt has started"):
        stage.patch(FINETUNEJOBS, "tone", {"spec": {"training": {"maxSteps": 6}}})

    config = stage.get(JOBS, "tone-train-1")["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"]  # type: ignore[index]
    written = json.loads(stage.get(CONFIGMAPS, config)["data"]["run.json"])  # type: ignore[index]
    assert written["training"]["maxSteps"] == 5


def test_jobs_that_others_delete_or_edit_are_put_right(stage: Stage) -> None:
    prepare(stage)
    stage.nodes.play = playing(lambda *_: Runs())
    stage.create(FINETUNEJOBS, job())
    stage.operator.start()
    await_phase(stage, "tone", "Running")
    first = stage.get(JOBS, "tone-train-1")
    assert first is not None

    stage.patch(JOBS, "tone-train-1", {"metadata": {"labels": {"fettle.dev/attempt": None}}})
    eventually(
        lambda: (stage.get(JOBS, "tone-train-1") or first)["metadata"]["labels"].get("fettle.dev/attempt"),
        "the label is back",
    )
    stage.delete(JOBS, "tone-train-1")
    eventually(
        lambda: (stage.get(JOBS, "tone-train-1") or first)["metadata"]["uid"] != first["metadata"]["uid"],
        "the Job is made again",
    )
    await_phase(stage, "tone", "Running")
    status = stage.get(FINETUNEJOBS, "tone")["status"]  # type: ignore[index]
    assert [each["number"] for each in status["attempts"]] == [1]


def test_jobs_go_after_their_time_to_live_and_stay_away(stage: Stage) -> None:
    prepare(stage)
    stage.nodes.play = lives("failed")
    stage.create(FINETUNEJOBS, job(scheduling={"retries": 1, "ttlSecondsAfterFinished": 1}))
    stage.operator.start()
    await_phase(stage, "tone", "Failed")

    eventually(lambda: stage.jobs() == [], "the Jobs are gone")
    stage.await_quiet(QUIET_S)
    assert stage.jobs() == []
    assert phase_of(stage, "tone") == "Failed"


def test_the_same_name_again_meets_nothing_of_its_predecessor(stage: Stage) -> None:
    prepare(stage)
    stage.nodes.play = playing(lambda *_: Ends(3, failed("gateMissed", "GateMissed", "too bad")))
    stage.create(FINETUNEJOBS, job())
    stage.operator.start()
    await_phase(stage, "tone", "Failed")
    stage.delete(FINETUNEJOBS, "tone")
    stage.await_gone(FINETUNEJOBS, "tone")

    # The garbage collector is slow: the old Job is still there under the name of the new one's.
    stage.create(FINETUNEJOBS, job())
    stage.await_condition("tone", "Ready", "NameConflict", FINETUNEJOBS)
    stage.nodes.play = lives("good")
    for each in stage.jobs():
        stage.delete(JOBS, each["metadata"]["name"])

    await_phase(stage, "tone", "Succeeded")


def test_pods_pass_the_restricted_standard(stage: Stage) -> None:
    enforce = {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}
    path = f"/api/v1/namespaces/{stage.namespace}"
    stage.api.request("PATCH", path, enforce, content_type="application/merge-patch+json")
    prepare(stage)
    stage.nodes.play = lives("good")
    stage.create(FINETUNEJOBS, job(distributed={"nodes": 2}))
    stage.operator.start()

    await_phase(stage, "tone", "Succeeded")

    for pod in stage.items(PODS):
        assert pod["spec"]["automountServiceAccountToken"] is False
        assert pod["spec"]["enableServiceLinks"] is False
        assert {"requests", "limits"} <= pod["spec"]["containers"][0]["resources"].keys()


def test_a_status_that_somebody_erased_comes_back(stage: Stage) -> None:
    prepare(stage)
    stage.nodes.play = playing(lambda *_: Runs())
    stage.create(FINETUNEJOBS, job())
    stage.operator.start()
    await_phase(stage, "tone", "Running")
    stage.await_quiet(QUIET_S)
    reference = end_state(stage, "tone")

    stage.patch(
        FINETUNEJOBS, "tone", {"status": {"attempts": None, "conditions": None, "phase": None}}, "status"
    )

    eventually(lambda: phase_of(stage, "tone") == "Running", "as before")
    stage.await_quiet(QUIET_S)
    assert end_state(stage, "tone") == reference


class serving_progress:  # noqa: N801 - used like a function
    """Answer GET /progress at an address, as a trainer does."""

    def __init__(self, address: str, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200 if self.path == "/progress" else 404)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                return

        self._server = ThreadingHTTPServer((address, 9400), Handler)

    def __enter__(self) -> None:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
