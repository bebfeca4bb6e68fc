"""Small training runs on one rank or several: what the tests of durability start, stop, kill and compare.

Every rank is a process of its own, forked from a server that has imported the model stack once, so that a gang starts
in well under a second. Runs are tiny but real: a two-layer model with dropout, DeepSpeed where it is asked for.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
from dataclasses import dataclass
from functools import cache
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from free_ports import free_port

GLOBAL_BATCH = 8
ROWS = 32
LENGTH = 16
VOCABULARY = 128


@dataclass(frozen=True)
class Case:
    """One run: how it is laid out and how far it goes."""

    folder: Path
    method: Literal["lora", "qlora", "dora", "full"] = "lora"
    zero_stage: Literal[0, 1, 2, 3] | None = None
    offload: Literal["none", "optimizer", "parameters"] = "none"
    world_size: int = 1
    steps: int = 8
    save_every: int = 2
    eval_every: int | None = None
    eval_rows: int = 16
    dropout: float = 0.2
    learning_rate: float = 1e-2
    hold_at: int | None = None
    """The step at whose end the ranks wait for a file named `go`; to be killed or signalled there."""
    hold_in_evaluation: bool = False
    file_limit_bytes: int | None = None
    """The largest file that may be written after the first checkpoint: a full disk."""
    limited_rank: int = 0
    broken_row: bool = False
    """Whether rank 1 cannot read a row of the fourth step."""
    run_file: Path | None = None
    """A run of the whole engine instead, as this file describes it; it decides everything but the number of ranks."""


class Gang:
    """The ranks of one run, started together."""

    def __init__(self, case: Case, ranks: list[BaseProcess]) -> None:
        self.case = case
        self.ranks = ranks

    def kill(self) -> None:
        """SIGKILL all ranks at once, as the loss of a node does."""
        for rank in self.ranks:
            assert rank.pid is not None
            os.kill(rank.pid, signal.SIGKILL)
        self.wait()

    def signal(self, number: int, ranks: list[int] | None = None) -> None:
        for index in range(len(self.ranks)) if ranks is None else ranks:
            pid = self.ranks[index].pid
            assert pid is not None
            os.kill(pid, number)

    def wait(self, timeout_s: float = 120) -> list[int | None]:
        """Wait for all ranks; one that hangs is killed and shows as None."""
        deadline = time.monotonic() + timeout_s
        for rank in self.ranks:
            rank.join(max(0.0, deadline - time.monotonic()))
        codes = [rank.exitcode for rank in self.ranks]
        for rank in self.ranks:
            if rank.exitcode is None:
                rank.kill()
                rank.join()
        return codes

    def wait_until(self, step: int, timeout_s: float = 120) -> None:
        """Wait until the run has logged a step."""
        deadline = time.monotonic() + timeout_s
        while last_step(self.case.folder) < step:
            assert time.monotonic() < deadline, f"step {step} was not reached"
            assert any(rank.is_alive() for rank in self.ranks), "the run ended early: " + errors(
                self.case.folder
            )
            time.sleep(0.01)  # a poll with a deadline: the log is a file


def start(case: Case) -> Gang:
    """Start a gang; the server that its ranks are forked from is started with the first one."""
    case.folder.mkdir(parents=True, exist_ok=True)
    context, port = _server(), free_port()
    ranks = [
        context.Process(target=_rank_main, args=(case, rank, port), daemon=True)
        for rank in range(case.world_size)
    ]
    for rank in ranks:
        rank.start()
    return Gang(case, ranks)


@cache
def _server() -> ForkServerContext:
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["DS_ACCELERATOR"] = "cpu"
    # The server is a fresh interpreter: it finds modules by this, not by what pytest put on our path.
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["rank_imports"])
    # The first process waits for the server's imports, so that no gang's deadline has to.
    first = context.Process(target=os.getpid)
    first.start()
    first.join()
    return context


def run(case: Case) -> list[int | None]:
    return start(case).wait()


def finished(case: Case) -> dict[str, Any]:
    """Run a case to its end and return what it recorded; the ranks must agree."""
    codes = run(case)
    assert codes == [0] * case.world_size, f"{codes}\n{errors(case.folder)}"
    return result(case.folder)


def result(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return loaded


def losses(folder: Path) -> dict[int, float]:
    """The loss of every step; a step that was run twice shows the later one."""
    lines = (folder / "losses.jsonl").read_text().splitlines() if (folder / "losses.jsonl").exists() else []
    return {record["step"]: record["loss"] for record in map(json.loads, lines)}


def last_step(folder: Path) -> int:
    path = folder / "losses.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    try:
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except ValueError:  # a line that is being written
        return 0


def errors(folder: Path) -> str:
    return "\n".join(f"{path.name}: {path.read_text()}" for path in sorted(folder.glob("error-*.txt")))


def with_(case: Case, **changes: Any) -> Case:
    return dataclasses.replace(case, **changes)


def digest_of(tensors: dict[str, Any]) -> str:
    hashed = hashlib.sha256()
    for name in sorted(tensors):
        hashed.update(name.encode())
        hashed.update(tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return hashed.hexdigest()


def _rank_main(case: Case, rank: int, port: int) -> None:
    import rank_runs  # noqa: PLC0415 - only within the forked ranks: it needs the model stack

    rank_runs.run_rank(case, rank, port)
