"""FineTuneJobs while the API server, a watch or a node is away for longer than anybody's patience."""

import time
from typing import Any

import pytest

from faults.nodes import Ends, Play, Runs, Waits, failed_status
from faults.rules import Answer, Rule
from faults.stage import Stage, eventually
from fettle_operator.resources import FINETUNEJOBS, JOBS, PODS
from finetune_stage import DISRUPTED, await_phase, job, lives, phase_of, playing, prepare, told, wake_nodes

pytestmark = pytest.mark.apiserver

QUIET_S = 2.5
"""A bit more than two resync periods of the operators here."""
OUTAGE_S = 70.0
"""More than kopf bears: its watches end the process after some 54 s of errors (operator.md, measured)."""


def held(names: set[str]) -> Play:
    """Return a play in which the first attempts of these jobs run as long as they are named."""

    def train(name: str, attempt: int) -> Ends | Runs | Waits | None:
        return Runs() if attempt == 1 and name in names else told(name)

    return playing(train)


def one_that_runs(stage: Stage) -> set[str]:
    """Bring the job `tone` into its first attempt, which runs until its name is taken from the set that is returned."""
    prepare(stage)
    running = {"tone"}
    stage.nodes.play = held(running)
    stage.operator.start()
    stage.create(FINETUNEJOBS, job("tone"))
    await_phase(stage, "tone", "Running")
    return running


def objects_shown(stage: Stage) -> str:
    """Return how many jobs the operator says it looks after."""
    lines = stage.operator.metrics().splitlines()
    return next(line for line in lines if line.startswith('fettle_objects{kind="FineTuneJob"}'))


def revived(stage: Stage, look: Any) -> Any:
    """Look, and start the operator anew where it has died, as a Deployment does."""
    if not stage.operator.alive():
        stage.operator.reap()
        stage.operator.start()
    return look()


def await_success(stage: Stage, name: str) -> None:
    try:
        eventually(
            lambda: revived(stage, lambda: phase_of(stage, name) == "Succeeded"), f"{name} Succeeded", 240.0
        )
    except AssertionError as error:
        ends = {each["metadata"]["name"]: each.get("status") for each in stage.jobs()}
        raise AssertionError(f"{error}; Jobs: {ends}; log:\n{stage.operator.log()[-3000:]}") from None


def test_an_outage_of_a_minute_costs_a_restart_at_most(stage: Stage) -> None:
    running = one_that_runs(stage)

    answers = [stage.rule(Rule(lambda _: True, Answer(code))) for code in (500, 503, 504)]
    stage.background.call(stage.proxy.cut_watches())
    # The attempt comes to its end while nobody can be told, and people go on asking for more.
    running.clear()
    wake_nodes(stage)
    stage.create(FINETUNEJOBS, job("later"))
    for answer in answers:
        over = time.monotonic() + OUTAGE_S / len(answers)
        eventually(lambda over=over: revived(stage, lambda: time.monotonic() > over), "another answer comes")
        answer.times = 0

    for name in ("tone", "later"):
        await_success(stage, name)
        status = await_phase(stage, name, "Succeeded")
        assert [each["outcome"] for each in status["attempts"]] == ["Succeeded"]
    stage.await_quiet(QUIET_S)
    assert set(stage.witness.counts(("Adapter", "Job", "ConfigMap")).values()) == {1}
    assert "Traceback" not in stage.operator.log()


def test_a_job_and_its_children_that_go_in_a_gap_of_the_watch_leave_no_ghost(stage: Stage) -> None:
    """After a 410 kopf lists anew and tells of no deletion: the next job of the name must not inherit anything."""
    one_that_runs(stage)
    stage.proxy.hides = lambda event: event["type"] == "DELETED"
    gone = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired"}
    error = {"type": "ERROR", "object": gone}
    eventually(lambda: stage.background.call(stage.proxy.inject(error)), "a watch is told")

    stage.delete(FINETUNEJOBS, "tone")
    for each in stage.jobs():
        stage.delete(JOBS, each["metadata"]["name"])

    eventually(lambda: objects_shown(stage).endswith(" 0.0"), "no loop is left")
    assert stage.jobs() == []
    stage.await_quiet(QUIET_S)
    stage.nodes.play = lives("good")
    stage.create(FINETUNEJOBS, job("tone"))
    status = await_phase(stage, "tone", "Succeeded")
    assert [each["number"] for each in status["attempts"]] == [1]


def test_a_pod_on_a_node_that_is_away_is_waited_for_before_another_one_writes(stage: Stage) -> None:
    """The Job is over for the API server, but nobody knows whether the process on the lost node still writes."""
    prepare(stage)
    stage.nodes.play = playing(lambda name, attempt: Runs() if attempt == 1 else told(name))
    stage.operator.start()
    stage.create(FINETUNEJOBS, job("tone"))
    await_phase(stage, "tone", "Running")
    pod = next(each for each in stage.items(PODS) if "train" in each["metadata"]["name"])
    name = pod["metadata"]["name"]
    # What a kubelet that does not answer leaves behind: a pod that runs, is to be deleted, and stays.
    stage.patch(PODS, name, {"metadata": {"finalizers": ["test.fettle.dev/node-is-away"]}})
    stage.patch(PODS, name, {"status": {"conditions": [DISRUPTED]}}, "status")
    stage.delete(PODS, name)
    stage.patch(JOBS, "tone-train-1", {"status": failed_status()}, "status")

    told_of = stage.await_condition("tone", "Ready", "Stopping", FINETUNEJOBS)

    assert name in told_of["message"]
    stage.await_quiet(QUIET_S)
    assert [each["metadata"]["name"] for each in stage.jobs() if "train" in each["metadata"]["name"]] == [
        "tone-train-1"
    ]
    stage.patch(PODS, name, {"metadata": {"finalizers": None}})
    status = await_phase(stage, "tone", "Succeeded")
    assert (len(status["attempts"]), status["failedAttempts"]) == (2, 0)
