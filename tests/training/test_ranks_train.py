"""`train` with two ranks, as a user starts it: stopped in the middle, started again, released."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from fettle_trainer.__main__ import main
from fettle_trainer.config.outcome import Outcome

STEPS = 40


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


def start(file: Path, log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-m", "fettle_trainer", "train", str(file), "--termination-log", str(log)]
    return subprocess.Popen(command, env=environment, start_new_session=True)


def wait_for_step(metrics: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 240
    while not metrics.is_file() or metrics.read_text().count('"loss"') < 2:
        assert time.monotonic() < deadline
        assert process.poll() is None, "the run ended before its first steps"
        time.sleep(0.05)


def test_a_run_on_two_ranks_is_stopped_goes_on_without_its_data_and_is_released(
    tmp_path: Path, tiny: Callable[[str], Path]
) -> None:
    file, log = run_file(tmp_path, tiny("llama")), tmp_path / "termination-log"
    work = tmp_path / "store" / ".fettle" / "tuned"
    first = start(file, log)
    wait_for_step(work / "metrics.jsonl", first)
    first.send_signal(signal.SIGTERM)
    assert first.wait(120) == 85
    outcome = Outcome.model_validate_json(log.read_bytes())
    assert outcome.outcome == "stopped"
    [checkpoint] = (work / "checkpoints").glob("checkpoint-*")
    assert 0 < int(checkpoint.name.removeprefix("checkpoint-")) < STEPS
    assert not list((tmp_path / "store").glob("tuned/*")), "a half-trained adapter was released"

    second = start(file, log)
    assert second.wait(300) == 0
    outcome = Outcome.model_validate_json(log.read_bytes())
    assert (outcome.outcome, outcome.step) == ("succeeded", STEPS)
    assert outcome.adapter is not None
    assert main(["verify", "--directory", str(tmp_path / "store" / outcome.adapter.path)]) == 0
