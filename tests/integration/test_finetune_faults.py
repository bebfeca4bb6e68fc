"""Faults during the lives of FineTuneJobs: they must always end where a clean life ends, and then be quiet."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from faults.nodes import Ends
from faults.operator_process import OperatorProcess, configuration
from faults.rules import Answer, Kill, Request, Reset, Rule, is_write
from faults.stage import Stage, eventually
from fettle_operator.resources import CONFIGMAPS, FINETUNEJOBS, JOBS
from finetune_objects import failed, outcome
from finetune_stage import DISRUPTED, await_phase, end_state, job, lives, phase_of, playing, prepare, told

pytestmark = pytest.mark.apiserver

QUIET_S = 2.5
"""A bit more than two resync periods of the operators here."""
SWEEP_S = 600.0
"""For a life during which the operator is started some twenty times, on a busy machine."""
ENDS = {"good": "Succeeded", "preempted": "Succeeded", "failed": "Failed"}
SPEC = {"scheduling": {"retries": 1}}


def concerns(request: Request, name: str) -> bool:
    """Tell whether a write is about a job or a child of it; events speak of them too."""
    return is_write(request) and bool(re.search(rf"\b{name}\b", request.path + request.body.decode()))


def revive(stage: Stage) -> None:
    if not stage.operator.alive():
        stage.operator.reap()
        stage.operator.start()


def ended(stage: Stage, name: str, phase: str) -> bool:
    revive(stage)
    return phase_of(stage, name) == phase


def live(stage: Stage, name: str, kind: str) -> Any:
    """Take a job from its creation to its end, starting the operator anew whenever it dies."""
    stage.create(FINETUNEJOBS, job(name, **SPEC))
    eventually(lambda: ended(stage, name, ENDS[kind]), f"{name} {ENDS[kind]}")
    stage.await_quiet(1.0)
    return end_state(stage, name)


def made_twice(stage: Stage) -> dict[Any, int]:
    """Return what was created or deleted more than once."""
    counts = stage.witness.counts(("Adapter", "Job", "ConfigMap"))
    return {key: count for key, count in counts.items() if count != 1}


def most_live_trainers(stage: Stage) -> int:
    """Return the largest number of unfinished training Jobs that any one job ever had."""
    unfinished: dict[str, set[str]] = {}
    most = 0
    for seen in list(stage.witness.history):
        if seen.kind == "Job" and "-train-" in seen.name:
            owner = seen.name.rsplit("-train-", 1)[0]
            over = any(
                each["type"] in {"Complete", "Failed"}
                for each in seen.manifest.get("status", {}).get("conditions", [])
            )
            names = unfinished.setdefault(owner, set())
            (names.discard if over or seen.type == "DELETED" else names.add)(seen.uid)
            most = max(most, len(names))
    return most


@pytest.mark.parametrize("kind", ENDS)
@pytest.mark.parametrize("when", ["before", "applied", "replied"])
def test_a_crash_at_any_write_changes_nothing_in_the_end(stage: Stage, kind: str, when: Any) -> None:
    """For every write there is a job at whose write the operator dies; all of them live at the same time."""
    prepare(stage)
    stage.nodes.play = lives(kind)
    stage.operator.start()
    stage.await_ready_operator()
    reference = live(stage, "life-00", kind)
    writes = sum(concerns(request, "life-00") for request in stage.proxy.writes())
    killed: list[int] = []

    def kill() -> None:
        killed.append(stage.operator.pid)
        stage.operator.kill()

    names = [f"life-{number:02}" for number in range(1, writes + 1)]
    for number, name in enumerate(names, start=1):
        counted = iter(range(1, 1000))
        kth = Rule(
            lambda r, k=number, n=name, c=counted: concerns(r, n) and next(c) == k, Kill(when, kill), times=1
        )
        stage.proxy.rules.append(kth)
    for name in names:
        stage.create(FINETUNEJOBS, job(name, **SPEC))
    for name in names:
        eventually(lambda name=name: ended(stage, name, ENDS[kind]), f"{name} {ENDS[kind]}", SWEEP_S)
    stage.await_quiet(QUIET_S)

    assert {name: end_state(stage, name) for name in names} == dict.fromkeys(names, reference)
    assert len(set(killed)) >= writes // 2, "the operator died again and again"
    assert made_twice(stage) == {}
    assert most_live_trainers(stage) == 1
    assert "Traceback" not in stage.operator.log()


ONCE = {
    "reply lost": Reset("after"),
    "request lost": Reset("before"),
    "409": Answer(409, reason="Conflict"),
    "503": Answer(503),
}


@pytest.mark.parametrize("fault", ONCE)
def test_every_write_that_fails_once_is_made_up_for(stage: Stage, fault: str) -> None:
    prepare(stage)
    stage.nodes.play = lives("preempted")
    stage.operator.start()
    stage.await_ready_operator()
    reference = live(stage, "life-00", "preempted")
    tried: Counter[str] = Counter()

    def first_time(request: Request) -> bool:
        if not is_write(request) or "/events" in request.path:
            return False
        what = f"{request.method} {request.path} {request.body.decode()[:4000]}"
        key = re.sub(r'"resourceVersion": ?"\d+"|"\d{4}-[^"]*Z"', "", what)
        tried[key] += 1
        return tried[key] == 1

    stage.rule(Rule(first_time, ONCE[fault]))

    assert live(stage, "life-01", "preempted") == reference
    assert len(tried) > 5
    assert made_twice(stage) == {}


def test_two_operators_at_once_start_no_attempt_twice(stage: Stage, tmp_path: Path) -> None:
    prepare(stage)
    stage.nodes.play = lives("preempted")
    second = OperatorProcess(
        tmp_path / "second", stage.proxy.kubeconfig(tmp_path), configuration(stage.namespace)
    )
    stage.operator.start()
    second.start()
    try:
        stage.await_ready_operator()
        eventually(lambda: second.probe("/readyz") == 200, "the second operator is ready")
        names = [f"life-{number}" for number in range(4)]
        for name in names:
            stage.create(FINETUNEJOBS, job(name))
        for name in names:
            await_phase(stage, name, "Succeeded")
        stage.await_quiet(QUIET_S)
        assert made_twice(stage) == {}
        assert most_live_trainers(stage) == 1
    finally:
        second.stop()


OUTCOMES: dict[str, tuple[Ends, int]] = {
    "stopped": (Ends(85, outcome("stopped", checkpointStep=3)), 0),
    "preempted": (Ends(143, conditions=(DISRUPTED,)), 0),
    "memory": (Ends(86, failed("outOfMemory", "OutOfMemory", microBatchSize=8)), 0),
    "killed": (Ends(137), 1),
    "terminated": (Ends(143), 1),
    "oomkilled": (Ends(137, reason="OOMKilled"), 0),
    "garbled": (Ends(0, '{"outcome": "succ'), 1),
    "silent": (Ends(1, ""), 1),
    "full": (Ends(1, failed(code="StorageFull", message="no space is left")), 1),
}
FINAL: dict[str, tuple[Ends, str]] = {
    "refused": (Ends(2, failed(code="TemplateMissing", message="no chat template")), "InputRefused"),
    "missed": (Ends(3, failed("gateMissed", "GateMissed", "too bad")), "GateMissed"),
}


def test_each_way_in_which_pods_end_costs_what_it_should(stage: Stage) -> None:
    prepare(stage)
    first = {
        **{name: end for name, (end, _) in OUTCOMES.items()},
        **{name: end for name, (end, _) in FINAL.items()},
    }
    stage.nodes.play = playing(lambda name, attempt: first[name] if attempt == 1 else told(name))
    for name in first:
        stage.create(FINETUNEJOBS, job(name))
    stage.operator.start()

    for name, (_, counted) in OUTCOMES.items():
        status = await_phase(stage, name, "Succeeded")
        assert (len(status["attempts"]), status["failedAttempts"]) == (2, counted), name
    for name, (_, reason) in FINAL.items():
        assert len(await_phase(stage, name, "Failed")["attempts"]) == 1, name
        assert stage.condition(name, "Ready", FINETUNEJOBS)["reason"] == reason  # type: ignore[index]
    sizes = {
        json.loads(each["data"]["run.json"])["training"].get("microBatchSize")
        for each in stage.items(CONFIGMAPS)
        if each["metadata"].get("labels", {}).get("fettle.dev/owner-name") == "memory"
    }
    assert sizes == {None, 4}, "half the micro-batch, after lack of memory alone"


def test_a_hundred_jobs_cost_what_one_costs_a_hundred_times(stage: Stage) -> None:
    prepare(stage)
    stage.nodes.play = lives("good")
    stage.operator.start()
    stage.await_ready_operator()
    names = [f"life-{number:03}" for number in range(100)]
    for name in names:
        stage.create(FINETUNEJOBS, job(name))
    for name in names:
        await_phase(stage, name, "Succeeded")
    stage.await_quiet(QUIET_S)

    ours = [
        write
        for write in stage.proxy.writes()
        if write.code and write.code < 300 and not _of_the_adapters_own_life(write)
    ]
    per_job = Counter(name for write in ours for name in names if concerns(write, name))
    assert max(per_job.values()) <= 20, per_job.most_common(3)
    before = len(stage.proxy.writes())
    stage.operator.stop()
    stage.operator.start()
    stage.await_ready_operator()
    stage.await_quiet(QUIET_S)
    assert [str(write) for write in stage.proxy.writes()[before:]] == []


def _of_the_adapters_own_life(write: Request) -> bool:
    if "/adapters/" in write.path:
        return True
    body = json.loads(write.body or b"{}")
    about = body.get("involvedObject", {}).get("kind") == "Adapter"
    return about or (JOBS.plural in write.path and "-verify-" in body.get("metadata", {}).get("name", ""))
