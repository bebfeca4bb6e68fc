"""A signal: all ranks agree on the step, save, end as stopped, and the run goes on as if it had not been."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from fettle_trainer.durable.checkpoints import CheckpointStore
from rank_cases import Case, Gang, finished, last_step, losses, start, with_

REPEATS = int(os.environ.get("FETTLE_STOP_REPEATS", "2"))
"""How often a run is stopped and resumed; the release is held to 30."""
STOPPED = 85


def evaluations(folder: Path) -> dict[int, float]:
    lines = (folder / "evals.jsonl").read_text().splitlines()
    return {record["step"]: record["loss"] for record in map(json.loads, lines)}


def wait_for_hold(gang: Gang) -> None:
    deadline = time.monotonic() + 120
    marks = [gang.case.folder / f"holding-{rank}" for rank in range(gang.case.world_size)]
    while not all(mark.exists() for mark in marks):
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "layout",
    [
        pytest.param({}, id="one-process"),
        pytest.param({"world_size": 2, "zero_stage": 2}, id="zero-2"),
        pytest.param({"world_size": 2, "zero_stage": 3}, id="zero-3"),
    ],
)
def test_ranks_that_are_stopped_at_any_time_save_the_same_step_and_go_on(
    tmp_path: Path, layout: dict[str, Any]
) -> None:
    steps = 3 * REPEATS + 2
    undisturbed = Case(folder=tmp_path / "undisturbed", steps=steps, save_every=steps, **layout)
    expected = finished(undisturbed)
    case = with_(undisturbed, folder=tmp_path / "stopped")
    for repeat in range(REPEATS):
        gang = start(case)
        gang.wait_until(last_step(case.folder) + 1)
        # One rank alone, or all of them one after the other: a node's eviction does either.
        gang.signal(signal.SIGTERM, ranks=[case.world_size - 1] if repeat % 2 == 0 else None)
        assert gang.wait() == [STOPPED] * case.world_size, f"in attempt {repeat + 1}"
        saved = CheckpointStore(case.folder / "checkpoints").newest_complete()
        assert saved is not None
        assert saved.facts.step == last_step(case.folder)
        assert not (case.folder / "result.json").exists(), "a stopped run went on to its end"
    assert finished(case)["digest"] == expected["digest"]
    assert losses(case.folder) == losses(undisturbed.folder)


def test_a_stop_within_an_evaluation_does_not_wait_for_its_end_and_costs_nothing(tmp_path: Path) -> None:
    layout: dict[str, Any] = {"world_size": 2, "zero_stage": 2, "steps": 6, "eval_every": 3, "save_every": 6}
    undisturbed = Case(folder=tmp_path / "undisturbed", **layout)
    expected = finished(undisturbed)
    case = with_(undisturbed, folder=tmp_path / "stopped", hold_at=3, hold_in_evaluation=True)
    gang = start(case)
    wait_for_hold(gang)
    gang.signal(signal.SIGTERM, ranks=[1])
    (case.folder / "go").touch()
    assert gang.wait() == [STOPPED, STOPPED]
    assert not (case.folder / "evals.jsonl").exists(), "the evaluation ran to its end"
    saved = CheckpointStore(case.folder / "checkpoints").newest_complete()
    assert saved is not None
    assert (saved.facts.step, saved.facts.evaluation_pending) == (3, True)
    assert finished(case)["digest"] == expected["digest"]
    assert evaluations(case.folder) == evaluations(undisturbed.folder)


def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    gang = start(Case(folder=tmp_path, hold_at=3))
    wait_for_hold(gang)
    deadline = time.monotonic() + 30
    while gang.ranks[0].is_alive():  # signals that come within one second count as one
        gang.signal(signal.SIGTERM)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert gang.wait() == [128 + signal.SIGTERM]
    saved = CheckpointStore(tmp_path / "checkpoints").newest_complete()
    assert saved is not None
    assert saved.facts.step == 2
