"""`train` with two ranks, as a user starts it: stopped in the middle, started again, released."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fettle_trainer.__main__ import main
from fettle_trainer.config.outcome import Outcome

STEPS = 40
DEADLINE_S = 600
"""Seconds on an idle machine; five interpreters load the model stack one after the other."""


def run_file(folder: Path, base: Path) -> Path:
    rows = [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": f"{2 * n}."}]}
        for n in range(40)
    ]
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = {
        "model": {"path": str(base)},
        "dataset": {"train": [{"path": str(folder / "data.jsonl")}], "validationSplit": "20%"},
        "training": {"maxSteps": STEPS, "batchSize": 4, "logEvery": 1, "saveEvery": STEPS},
        "distributed": {"processesPerNode": 2, "zero": {"stage": 2}},
        "evaluation": {"metrics": ["loss"], "samples": 2, "compareToBase": False},
        "output": {"directory": str(folder / "store"), "adapterName": "tuned"},
    }
    path = folder / "run.json"
    path.write_text(json.dumps(document))
    return path


@contextmanager
def started(file: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start the command as a user does; a test that fails leaves nothing behind."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "fettle_trainer", "train", str(file), "--termination-log", str(log)]
    with subprocess.Popen(command, env=environment, start_new_session=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


def wait_for_step(metrics: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not metrics.is_file() or metrics.read_text().count('"loss"') < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, "the run ended before its first steps"
        time.sleep(0.05)


def test_a_run_on_two_ranks_is_stopped_goes_on_without_its_data_and_is_released(
    tmp_path: Path, tiny: Callable[[str], Path]
) -> None:
    file, log = run_file(tmp_path, tiny("llama")), tmp_path / "termination-log"
    work = tmp_path / "store" / ".fettle" / "tuned"
    with started(file, log) as first:
        wait_for_step(work / "metrics.jsonl", first)
        first.send_signal(signal.SIGTERM)
        assert first.wait(DEADLINE_S) == 85
    outcome = Outcome.model_validate_json(log.read_bytes())
    [checkpoint] = (work / "checkpoints").glob("checkpoint-*")
    saved = int(checkpoint.name.removeprefix("checkpoint-"))
    assert 0 < saved < STEPS
    assert (outcome.outcome, outcome.checkpoint_step, outcome.total_steps) == ("stopped", saved, STEPS)
    assert outcome.save_seconds is not None
    (tmp_path / "data.jsonl").unlink()  # a vanished dataset: the tokens of the first attempt are kept
    assert not list((tmp_path / "store").glob("tuned/*")), "a half-trained adapter was released"

    with started(file, log) as second:
        assert second.wait(DEADLINE_S) == 0
    outcome = Outcome.model_validate_json(log.read_bytes())
    assert (outcome.outcome, outcome.step) == ("succeeded", STEPS)
    assert outcome.adapter is not None
    assert main(["verify", "--directory", str(tmp_path / "store" / outcome.adapter.path)]) == 0
