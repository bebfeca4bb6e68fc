"""`train` with two ranks, as a user starts it: out of memory, stopped, and released under a torchrun of the user's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fettle_trainer.__main__ import main
from fettle_trainer.config.outcome import Outcome

STEPS = 16
DEADLINE_S = 600
"""Seconds on an idle machine; the interpreters load the model stack one after the other."""
HUNGRY_LOSS = """
import os, pathlib, torch

class Hungry:
    calls = 0

    def __init__(self, hunger):
        self.hunger = pathlib.Path(hunger)

    def __call__(self, logits, targets):
        Hungry.calls += 1
        if Hungry.calls == 4 and os.environ.get("RANK") == "1" and self.hunger.exists():
            torch.empty(2**50, dtype=torch.uint8)
        return torch.nn.functional.cross_entropy(logits, targets, reduction="none")
"""


class Gang:
    """One run over two ranks: its file, what it leaves, and a loss that may be too greedy on the second rank."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder = folder
        self.log = folder / "termination-log"
        self.work = folder / "store" / ".fettle" / "tuned"
        self.hunger = folder / "hungry"
        self._install_loss()
        rows = [
            {
                "messages": [
                    {"role": "user", "content": f"{n}?"},
                    {"role": "assistant", "content": f"{2 * n}."},
                ]
            }
            for n in range(40)
        ]
        (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.document: dict[str, Any] = {
            "model": {"path": str(base)},
            "dataset": {"train": [{"path": str(folder / "data.jsonl")}], "validationSplit": "20%"},
            "training": {
                "maxSteps": STEPS, "batchSize": 4, "microBatchSize": 2, "logEvery": 1, "saveEvery": 2,
                "evalEvery": STEPS, "loss": {"plugin": "hungry", "settings": {"hunger": str(self.hunger)}},
            },
            "distributed": {"processesPerNode": 2, "zero": {"stage": 3}},
            "evaluation": {"metrics": ["loss"], "samples": 2, "compareToBase": False},
            "output": {"directory": str(folder / "store"), "adapterName": "tuned"},
        }  # fmt: skip

    def _install_loss(self) -> None:
        package = self.folder / "installed"
        described = package / "hungry-1.dist-info"
        described.mkdir(parents=True)
        (package / "hungry.py").write_text(textwrap.dedent(HUNGRY_LOSS))
        (described / "METADATA").write_text("Name: hungry\nVersion: 1\n")
        (described / "entry_points.txt").write_text("[fettle_trainer.losses]\nhungry = hungry:Hungry\n")

    def outcome(self) -> Outcome:
        return Outcome.model_validate_json(self.log.read_bytes())

    @contextmanager
    def started(self, launcher: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
        """Start the command as a user does; a test that fails leaves nothing behind."""
        (self.folder / "run.json").write_text(json.dumps(self.document))
        path = [str(self.folder / "installed"), *(path for path in sys.path if path)]
        words = ["-m", "fettle_trainer", "train", str(self.folder / "run.json")]
        with subprocess.Popen(
            [sys.executable, *launcher, *words, "--termination-log", str(self.log)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.terminate()

    def wait_for_step(self, step: int, process: subprocess.Popen[bytes]) -> None:
        metrics = self.work / "metrics.jsonl"
        deadline = time.monotonic() + DEADLINE_S
        while not metrics.is_file() or f'"step": {step},' not in metrics.read_text():
            assert time.monotonic() < deadline
            assert process.poll() is None, "the run ended before that step"
            time.sleep(0.05)


@pytest.fixture
def gang(tmp_path: Path, tiny: Callable[[str], Path]) -> Gang:
    return Gang(tmp_path, tiny("llama"))


def test_a_run_goes_on_after_running_out_of_memory_and_a_stop_and_is_released_without_its_data(
    gang: Gang,
) -> None:
    gang.hunger.touch()
    with gang.started() as first:
        assert first.wait(DEADLINE_S) == 86, "the memory of one rank is the run's"
    outcome = gang.outcome()
    assert outcome.error is not None
    assert "training.microBatchSize to 1" in outcome.error.message
    assert (outcome.outcome, outcome.checkpoint_step, outcome.micro_batch_size) == ("outOfMemory", 2, 2)

    gang.hunger.unlink()
    gang.document["training"]["microBatchSize"] = 1
    with gang.started() as second:
        gang.wait_for_step(4, second)
        second.send_signal(signal.SIGTERM)
        assert second.wait(DEADLINE_S) == 85
    outcome = gang.outcome()
    assert outcome.checkpoint_step is not None
    assert 4 <= outcome.checkpoint_step < STEPS
    assert (outcome.outcome, outcome.total_steps) == ("stopped", STEPS)
    assert outcome.save_seconds is not None
    assert not list((gang.folder / "store").glob("tuned/*")), "a half-trained adapter was released"

    (gang.folder / "data.jsonl").unlink()  # a vanished dataset: the tokens of the first attempt are kept
    del gang.document["distributed"]["processesPerNode"]  # a torchrun of one's own says it
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    with gang.started(torchrun) as third:
        assert third.wait(DEADLINE_S) == 0
    outcome = gang.outcome()
    assert (outcome.outcome, outcome.step) == ("succeeded", STEPS)
    assert outcome.adapter is not None
    assert main(["verify", "--directory", str(gang.folder / "store" / outcome.adapter.path)]) == 0
    steps = [json.loads(line)["step"] for line in (gang.work / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(steps), "steps were trained twice, or lost"
