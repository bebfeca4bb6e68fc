"""FineTuneJobs on a real cluster with the real trainer: trained, refused, and disturbed in every way a cluster knows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import finetune_team
from devcluster import processes
from devcluster.waiting import wait_until
from fettle_trainer.watch.metrics_file import METRICS_NAME, read_metrics
from finetune_team import PATIENCE_S, Team, finetunejob
from helm_chart import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cluster_plugin import Cluster

pytestmark = pytest.mark.cluster

SMALL = {"requests": {"cpu": "250m", "memory": "1Gi"}}
LONG = {"maxSteps": 60, "saveEvery": 5, "batchSize": 8, "maxLength": 128, "logEvery": 1}
"""Long enough to be met in the middle, with a checkpoint behind it."""


LEFT_ALONE = (
    *(finetunejob(f"tone-{method}", method=method, resources=SMALL) for method in ("lora", "qlora", "dora")),
    finetunejob("broken", data="broken.jsonl"),
    finetunejob("pair", distributed={"nodes": 2, "zero": {"stage": 2}}, resources=SMALL),
    finetunejob("undisturbed", training=LONG, resources=SMALL),
)
"""Jobs that nothing is done to: they run side by side from the beginning, as those of a team do."""


@pytest.fixture(scope="module")
def team(cluster: Cluster) -> Iterator[Team]:
    """Return a namespace with Fettle, a base model, data and jobs under way; all of it goes at the end."""
    build = [sys.executable, "-m", "images", "build", "operator", "trainer", "--push"]
    subprocess.run(build, cwd=ROOT, check=True, timeout=3600)
    with finetune_team.settled(cluster) as made:
        made.apply(*LEFT_ALONE)
        yield made


@pytest.fixture(scope="module")
def undisturbed(team: Team) -> dict[int, float]:
    """Return the loss of each step of a run that nothing happens to."""
    assert team.await_end("undisturbed")["attemptCount"] == 1
    curve = curve_of(team, "undisturbed")
    assert sorted(curve) == list(range(1, 61))
    return curve


def test_each_method_ends_in_a_ready_adapter(team: Team) -> None:
    for method in ("lora", "qlora", "dora"):
        name = f"tone-{method}"
        status = team.await_end(name)
        assert team.ready(name)["status"] == "True", status
        assert status["progress"]["step"] == 10
        assert status["dataset"]["rows"] == 200
        assert status["dataset"]["digest"].startswith("sha256:")
        assert "loss" in status["evaluation"]["tuned"]
        adapter = team.get("adapter", name)["status"]
        assert adapter["method"] == method
        assert adapter["digest"] == status["adapter"]["digest"]
        assert adapter["producedBy"]["name"] == name
        assert adapter["datasetDigest"] == status["dataset"]["digest"]


def test_a_job_goes_on_from_an_adapter_which_stays_while_somebody_uses_it(team: Team) -> None:
    team.await_end("tone-lora")
    earlier = {"adapterRef": {"name": "tone-lora"}}
    team.apply(
        finetunejob("further", model=earlier, output={"store": {"size": "1Gi"}}, resources=SMALL),
        {
            "apiVersion": "fettle.dev/v1alpha1",
            "kind": "InferenceDeployment",
            "metadata": {"name": "shop"},
            "spec": {"model": earlier, "adapter": earlier},
        },
    )

    team.await_end("further")

    assert team.ready("further")["status"] == "True", team.status("further")
    told = team.get("inferencedeployment", "shop")["status"]["conditions"]
    assert [each["reason"] for each in told] == ["ControllerNotAvailable"]
    team.kubectl("delete", "adapter", "tone-lora", "--wait=false")
    wait_until(
        lambda: "InferenceDeployment shop" in json.dumps(team.get("adapter", "tone-lora")["status"]),
        timeout_s=60,
        every_s=0.5,
        otherwise=lambda: f"the user is not told: {team.get('adapter', 'tone-lora')}",
    )
    team.kubectl("delete", "inferencedeployment", "shop")
    team.kubectl("wait", "--for=delete", "adapter/tone-lora", "--timeout=60s")


def test_a_job_of_somebody_else_is_named_and_what_is_ours_is_put_right(team: Team) -> None:
    pod = {"restartPolicy": "Never", "containers": [{"name": "theirs", "image": "none"}]}
    theirs = {"suspend": True, "template": {"spec": pod}}
    team.apply(
        {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "taken-check-1"}, "spec": theirs},
        finetunejob("taken", resources=SMALL),
    )
    await_reason(team, "taken", "NameConflict")
    assert "Job taken-check-1" in team.ready("taken")["message"]

    team.kubectl("delete", "job", "taken-check-1")
    await_reason(team, "taken", "Validating")
    team.kubectl("label", "job", "taken-check-1", "fettle.dev/owner-name=nobody", "--overwrite")

    wait_until(
        lambda: team.get("job", "taken-check-1")["metadata"]["labels"]["fettle.dev/owner-name"] == "taken",
        timeout_s=60,
        every_s=0.2,
        otherwise=lambda: f"the label stays wrong: {team.get('job', 'taken-check-1')['metadata']}",
    )
    team.kubectl("delete", "finetunejob", "taken")


def test_wrong_data_is_told_with_its_file_and_line(team: Team) -> None:
    team.await_end("broken")

    ready = team.ready("broken")
    assert ready["reason"] == "DatasetInvalid"
    assert "broken.jsonl:6: " in ready["message"]
    jobs = team.get("jobs", "--selector", "fettle.dev/owner-name=broken")["items"]
    assert [each["metadata"]["name"] for each in jobs] == ["broken-check-1"]


def test_two_pods_train_one_adapter_with_zero_2(team: Team) -> None:
    status = team.await_end("pair")

    assert team.ready("pair")["status"] == "True", status
    assert status["attemptCount"] == 1
    assert status["resolved"]["training.microBatchSize"]
    assert team.get("adapter", "pair")["status"]["phase"] == "Ready"


def killed(team: Team, name: str) -> None:
    """Kill the trainer as the kernel does, without a word."""
    assert finetune_team.kill_processes_of(team, f"{name}-train-1") > 0


def deleted(team: Team, name: str) -> None:
    """Delete the pod, as somebody who tidies up does."""
    team.kubectl("delete", "pod", "--selector", pods_of(name), "--wait=false")


def drained(team: Team, name: str) -> None:
    """Evict the pod and close the node for a while, as for its maintenance."""
    node = team.get("pods", "--selector", pods_of(name))["items"][0]["spec"]["nodeName"]
    team.cluster.kubectl("drain", node, "--pod-selector", pods_of(name), "--delete-emptydir-data", "--force")
    try:
        wait_until(
            lambda: team.ready(name).get("reason") == "Unschedulable",
            timeout_s=60,
            every_s=0.5,
            otherwise=lambda: f"a closed node is not told: {team.ready(name)}",
        )
    finally:
        team.cluster.kubectl("uncordon", node)


@pytest.mark.parametrize(
    ("disturb", "outcome", "counted"),
    [(killed, "Failed", True), (deleted, "Stopped", False), (drained, "Stopped", False)],
    ids=["killed", "deleted", "drained"],
)
def test_a_disturbed_run_goes_on_from_its_checkpoint_as_if_nothing_had_happened(
    team: Team,
    undisturbed: dict[int, float],
    disturb: Callable[[Team, str], None],
    outcome: str,
    counted: bool,
) -> None:
    name = disturb.__name__
    team.apply(finetunejob(name, training=LONG, resources=SMALL))
    await_step(team, name, 7)

    disturb(team, name)

    status = team.await_end(name)
    first, *_, last = status["attempts"]
    assert (first["outcome"], bool(status.get("failedAttempts", 0))) == (outcome, counted), status
    assert last["outcome"] == "Succeeded", status
    assert last["firstStep"] >= 5, "it went on from a checkpoint"
    assert curve_of(team, name) == undisturbed


def test_a_run_survives_a_container_runtime_that_is_away(team: Team, undisturbed: dict[int, float]) -> None:
    team.apply(finetunejob("unattended", training=LONG, resources=SMALL))
    await_step(team, "unattended", 7)
    state = team.cluster.plan.state
    os.kill(processes.running(state)["containerd-node1"].pid, signal.SIGKILL)
    # Away for as long as the run lasts or a restart of a machine's services takes, whichever is over first.
    wait_until(
        lambda: len(curve_of(team, "unattended")) > 30,
        timeout_s=60,
        every_s=1,
        otherwise=lambda: f"training stopped: {sorted(curve_of(team, 'unattended'))}",
    )
    finetune_team.mend(team.cluster)

    status = team.await_end("unattended")

    assert [each["outcome"] for each in status["attempts"]] == ["Succeeded"], status
    assert curve_of(team, "unattended") == undisturbed


def test_a_suspended_run_goes_on_past_a_checkpoint_that_was_damaged(
    team: Team, undisturbed: dict[int, float]
) -> None:
    team.apply(finetunejob("damaged", training=LONG, resources=SMALL))
    await_step(team, "damaged", 12)
    suspend(team, "damaged", True)
    wait_until(
        lambda: (
            team.status("damaged").get("phase") == "Suspended"
            and not team.get("pods", "--selector", pods_of("damaged"))["items"]
        ),
        timeout_s=120,
        every_s=0.5,
        otherwise=lambda: f"still running: {team.status('damaged')}",
    )
    *_, older, newest = sorted((folder_of(team, "damaged") / "checkpoints").iterdir(), key=step_of)
    weights = max(newest.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)

    suspend(team, "damaged", False)

    status = team.await_end("damaged")
    last = status["attempts"][-1]
    assert last["outcome"] == "Succeeded", status
    assert last["firstStep"] == step_of(older)
    assert curve_of(team, "damaged") == undisturbed


def test_a_full_store_is_told_and_the_run_goes_on_when_there_is_room(
    team: Team, undisturbed: dict[int, float], tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m,uid=10001,gid=10001", "tmpfs", small], check=True)
    try:
        team.apply(*finetune_team.volume_on_the_host("cramped", small))
        filler = small / "filler"
        filler.write_bytes(b"x" * (60 << 20))
        job = finetunejob(
            "cramped", training=LONG, resources=SMALL, output={"store": {"claimName": "cramped"}}
        )
        team.apply(job)
        wait_until(
            lambda: team.ready("cramped").get("reason") == "StorageFull",
            timeout_s=PATIENCE_S,
            every_s=0.5,
            otherwise=lambda: f"a full store is not told: {team.status('cramped')}",
        )
        filler.unlink()

        status = team.await_end("cramped")

        assert status["attempts"][-1]["outcome"] == "Succeeded", status
        assert curve_of(team, "cramped", small) == undisturbed
        team.kubectl("delete", "finetunejob", "cramped", "--wait")
    finally:
        finetune_team.forget_volume(team, "cramped")
        subprocess.run(["umount", "--lazy", small], check=True)


def pods_of(name: str) -> str:
    """Select the pods that train for a job."""
    return f"fettle.dev/owner-name={name},app.kubernetes.io/component=trainer"


def suspend(team: Team, name: str, wanted: bool) -> None:
    patch = json.dumps({"spec": {"scheduling": {"suspend": wanted}}})
    team.kubectl("patch", "finetunejob", name, "--type=merge", "--patch", patch)


def await_reason(team: Team, name: str, reason: str) -> None:
    wait_until(
        lambda: team.ready(name).get("reason") == reason,
        timeout_s=120,
        every_s=0.2,
        otherwise=lambda: f"{name} does not say {reason}: {team.ready(name)}",
    )


def await_step(team: Team, name: str, step: int) -> None:
    """Wait until a run has done some steps, as its own record tells: status is told later."""
    wait_until(
        lambda: max(curve_of(team, name), default=0) >= step,
        timeout_s=PATIENCE_S,
        every_s=0.2,
        otherwise=lambda: f"no progress: {team.status(name)}",
    )


def folder_of(team: Team, name: str, store: Path | None = None) -> Path:
    """Return where a run keeps its records, on the disk of this machine."""
    uid = team.get("finetunejob", name)["metadata"]["uid"]
    return (store or finetune_team.folder_of_claim(team, "results")) / ".fettle" / "runs" / uid


def curve_of(team: Team, name: str, store: Path | None = None) -> dict[int, float]:
    """Return the loss of each step as the run has recorded it, to the last digit."""
    lines = read_metrics(folder_of(team, name, store) / METRICS_NAME)
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
