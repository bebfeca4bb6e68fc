"""The launcher: torchrun's command, signals passed on, one verdict over all ranks, the last words."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from fettle_trainer.config.exit_codes import ExitCode
from fettle_trainer.config.outcome import Outcome, OutcomeError
from fettle_trainer.config.run import DistributedConfig
from fettle_trainer.durable import kernel_kills
from fettle_trainer.durable.checkpoints import CheckpointStore
from fettle_trainer.durable.failures import is_lost_peer, is_out_of_memory, out_of_memory, save_failure
from fettle_trainer.durable.launch import (
    Children,
    plan_gang,
    run_reporting,
    torchrun_command,
    wait_for_name,
)
from fettle_trainer.durable.termination import render_outcome, write_termination_message
from fettle_trainer.durable.verdict import RankReport, judge, read_reports, write_report
from fettle_trainer.errors import IncompleteError, MemoryExhaustedError, StoppedError, WrongInputError
from fettle_trainer.train.ending import verdict_of

TWO = DistributedConfig(nodes=2, processes_per_node=4, grace_seconds=120)
LOST = RankReport(exit_code=1, at=2.0, code="InternalError", message="gone", lost_peer=True)


def report(code: int, at: float = 1.0, name: str = "X", message: str = "why") -> RankReport:
    return RankReport(exit_code=code, at=at, code=name, message=message)


@pytest.mark.parametrize(
    ("reports", "returncode", "exit_code", "code"),
    [
        ({0: report(0), 1: report(0)}, 0, 0, ""),
        ({0: report(0), 1: report(0)}, 1, 1, "RanksDisagree"),
        ({0: report(85, name="Stopped"), 1: report(85, name="Stopped")}, 1, 85, "Stopped"),
        ({0: report(85), 1: report(0)}, 1, 1, "RanksDisagree"),
        ({0: LOST, 1: report(2, name="DataWrong")}, 1, 2, "DataWrong"),
        ({0: LOST, 1: report(86, name="OutOfMemory")}, 1, 86, "OutOfMemory"),
        ({0: LOST, 1: report(1, name="CheckpointNotSaved")}, 1, 1, "CheckpointNotSaved"),
        ({0: LOST}, 1, 137, "RankLost"),
        ({}, 1, 137, "RankLost"),
        ({0: report(0)}, 0, 137, "RankLost"),
        ({0: LOST, 1: LOST}, 1, 1, "RankLost"),
        ({0: report(1, at=5.0, name="Second"), 1: report(1, at=4.0, name="First")}, 1, 1, "First"),
    ],
)
def test_the_rank_that_knows_why_decides(
    reports: dict[int, RankReport], returncode: int, exit_code: int, code: str
) -> None:
    verdict = judge(reports, range(2), returncode)
    assert (verdict.exit_code, verdict.code) == (exit_code, code)


def test_a_rank_that_the_kernel_killed_for_its_memory_is_told_apart_from_one_that_was_just_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    monkeypatch.setattr(kernel_kills.memory_kills, "__defaults__", ((tmp_path / "missing", events),))
    killed = f"sed -i 's/oom_kill 2/oom_kill 3/' {events}; kill -9 $$"

    first = run_reporting(["sh", "-c", killed], range(1), Children(), os.environ, 1.0)
    second = run_reporting(["sh", "-c", "kill -9 $$"], range(1), Children(), os.environ, 1.0)

    assert (first.exit_code, first.code, second.exit_code, second.code) == (
        86,
        "OutOfMemory",
        137,
        "RankLost",
    )
    assert "training.microBatchSize" in first.message


def test_a_rank_leaves_its_report_where_the_launcher_looks(tmp_path: Path) -> None:
    environment = {"FETTLE_RANK_REPORTS": str(tmp_path), "RANK": "3"}
    assert write_report(StoppedError("Stopped", "saved"), environment) == 85
    (tmp_path / "rank-4.json").write_text('{"exitCode": ')
    assert {rank: (found.exit_code, found.code) for rank, found in read_reports(tmp_path).items()} == {
        3: (85, "Stopped")
    }


def test_rank_0_is_fixed_on_the_first_node_and_the_timeout_follows_the_grace() -> None:
    plan = plan_gang(TWO, {"JOB_COMPLETION_INDEX": "1", "FETTLE_MASTER_ADDR": "job-0.job"})
    command = torchrun_command(plan, ["-m", "fettle_trainer", "worker", "run.json"])
    assert list(plan.ranks_here) == [4, 5, 6, 7]
    words = " ".join(command[1:])
    assert "--rdzv-backend static --nnodes 2 --node-rank 1 --master-addr job-0.job" in words
    assert (
        "--nproc-per-node 4 --max-restarts 0 --shutdown-timeout 110 -m fettle_trainer worker run.json"
        in words
    )


@pytest.mark.parametrize(
    ("environment", "param"),
    [
        ({"FETTLE_MASTER_ADDR": "a"}, "FETTLE_NODE_RANK"),
        ({"FETTLE_NODE_RANK": "2", "FETTLE_MASTER_ADDR": "a"}, "FETTLE_NODE_RANK"),
        ({"FETTLE_NODE_RANK": "one", "FETTLE_MASTER_ADDR": "a"}, "FETTLE_NODE_RANK"),
        ({"FETTLE_NODE_RANK": "1"}, "FETTLE_MASTER_ADDR"),
    ],
)
def test_a_node_that_does_not_know_its_place_is_told_which_variable_to_set(
    environment: dict[str, str], param: str
) -> None:
    with pytest.raises(WrongInputError, match=param) as caught:
        plan_gang(TWO, environment)
    assert caught.value.param == param


def test_the_first_nodes_name_is_asked_for_until_it_is_known() -> None:
    answers = iter([socket.gaierror("not yet"), socket.gaierror("not yet"), "10.0.0.1"])

    def resolve(_name: str) -> object:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    pauses: list[float] = []
    wait_for_name("job-0.job", resolve, clock=lambda: 0.0, pause=pauses.append)
    assert len(pauses) == 2


def test_a_name_that_never_comes_ends_the_wait() -> None:
    clock = iter(range(0, 10_000, 100))

    def resolve(_name: str) -> object:
        raise socket.gaierror("unknown")

    with pytest.raises(IncompleteError, match=r"job-0\.job"):
        wait_for_name("job-0.job", resolve, clock=lambda: float(next(clock)), pause=lambda _: None)


RANK = """
import os, pathlib, signal, sys, time
sys.path[:0] = {path!r}
from fettle_trainer.durable.verdict import write_report
from fettle_trainer.errors import StoppedError, WrongInputError
folder, mode = pathlib.Path({folder!r}), {mode!r}
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
rank = os.environ["RANK"]
(folder / ("node-of-" + rank)).write_text(os.environ.get("FETTLE_NODE_RANK", "0"))
(folder / ("up-" + rank)).write_text(str(os.getpid()))
if mode == "wrong" and rank == "1":
    sys.exit(write_report(WrongInputError("DataWrong", "row 7", "dataset")))
if mode == "lost" and rank == "1":
    os.kill(os.getpid(), signal.SIGKILL)
deadline = time.monotonic() + 60
while not asked and time.monotonic() < deadline:
    time.sleep(0.01)
sys.exit(write_report(StoppedError("Stopped", "saved")))
"""


def gang(
    tmp_path: Path, mode: str, *, nodes: int = 1, processes: int = 2, **environment: str
) -> subprocess.Popen[str]:
    """Start the real launcher and the real torchrun on ranks that need no model stack."""
    (tmp_path / "rank.py").write_text(
        textwrap.dedent(RANK).format(folder=str(tmp_path), mode=mode, path=sys.path)
    )
    script = f"""
import os, sys
sys.path[:0] = {sys.path!r}
from fettle_trainer.config.run import DistributedConfig
from fettle_trainer.durable.launch import Children, plan_gang, run_gang
plan = plan_gang(DistributedConfig(nodes={nodes}, processes_per_node={processes}), os.environ)
with Children().listening() as children:
    verdict = run_gang(plan, [{str(tmp_path / "rank.py")!r}], children, os.environ)
print(verdict.code, flush=True)
sys.exit(verdict.exit_code)
"""
    return subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def wait_for_ranks(tmp_path: Path) -> list[int]:
    paths = [tmp_path / "up-0", tmp_path / "up-1"]
    deadline = time.monotonic() + 240
    while not all(path.exists() and path.read_text() for path in paths):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [int(path.read_text()) for path in paths]


@pytest.mark.parametrize(
    ("mode", "exit_code", "code"), [("wrong", 2, "DataWrong"), ("lost", 137, "RankLost")]
)
def test_the_launcher_ends_with_the_verdict_over_real_ranks(
    tmp_path: Path, mode: str, exit_code: int, code: str
) -> None:
    process = gang(tmp_path, mode)
    output, _ = process.communicate(timeout=120)
    assert (process.returncode, output.strip()) == (exit_code, code)


def test_a_signal_reaches_the_ranks_once_and_they_end_as_stopped(tmp_path: Path) -> None:
    process = gang(tmp_path, "wait")
    wait_for_ranks(tmp_path)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert (process.returncode, output.strip()) == (85, "Stopped")


def test_two_nodes_meet_with_rank_0_on_the_first_and_stop_together(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = {"FETTLE_MASTER_ADDR": "127.0.0.1", "FETTLE_MASTER_PORT": str(probe.getsockname()[1])}
    # The second node comes first: who is early must not become rank 0.
    launchers = [
        gang(tmp_path, "wait", nodes=2, processes=1, FETTLE_NODE_RANK=node, **meeting) for node in ("1", "0")
    ]
    wait_for_ranks(tmp_path)
    assert [(tmp_path / f"node-of-{rank}").read_text() for rank in (0, 1)] == ["0", "1"]
    for launcher in launchers:
        launcher.send_signal(signal.SIGTERM)
    assert [
        (launcher.communicate(timeout=120)[0].strip(), launcher.returncode) for launcher in launchers
    ] == [
        ("Stopped", 85),
        ("Stopped", 85),
    ]


def test_a_second_signal_leaves_no_process_behind(tmp_path: Path) -> None:
    process = gang(tmp_path, "wait")
    ranks = wait_for_ranks(tmp_path)
    for rank in ranks:  # a stopped process handles no signal: it is as deaf as one that hangs
        os.kill(rank, signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{rank}").exists() for rank in ranks):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_no_child_is_started_after_a_stop_was_requested() -> None:
    children = Children()
    children.requested = signal.SIGTERM
    assert children.run([sys.executable, "-c", "raise SystemExit(0)"], os.environ) == 128 + signal.SIGTERM


def test_the_launcher_imports_no_model_library() -> None:
    code = "import sys, fettle_trainer.durable.launch; print('torch' in sys.modules, 'numpy' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    shown = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == ["False", "False"]


def test_a_long_sentence_is_cut_and_the_json_stays_whole(tmp_path: Path) -> None:
    error = OutcomeError(code="DataWrong", message='"ü\n' * 680, param="dataset")
    path = tmp_path / "termination-log"
    write_termination_message(Outcome(outcome="failed", error=error, metrics={"loss": 1.5}), path)
    data = path.read_bytes()
    written = Outcome.model_validate(json.loads(data))
    assert len(data) <= 4096
    assert len(data) > 4000
    assert written.error is not None
    assert written.error.message.endswith(" …")
    assert written.metrics == {"loss": 1.5}


def test_reports_and_metrics_give_way_before_the_json_is_cut() -> None:
    many = Outcome(
        outcome="failed",
        error=OutcomeError(code="X", message="a sentence"),
        metrics={f"metric{index:02}" * 7: float(index) for index in range(32)},
        reports=dict.fromkeys(
            ("dataset", "receipt", "evaluation", "samples", "metrics", "results"), "r" * 256
        ),
    )
    data = render_outcome(many)
    assert len(data) <= 4096
    assert Outcome.model_validate_json(data).error is not None


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"
        ),
        RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_running_out_of_memory_is_known_in_all_its_forms(error: Exception) -> None:
    assert is_out_of_memory(error)


def test_out_of_memory_advises_half_the_micro_batch() -> None:
    error = out_of_memory(6)
    assert isinstance(error, MemoryExhaustedError)
    assert "microBatchSize to 3" in error.message
    assert "maxLength" in out_of_memory(1).message


@pytest.mark.parametrize(
    "words",
    [
        "[gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:1",
        "[gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for recv operation to complete",
        "ncclRemoteError: A call failed possibly due to a network error or a remote process exiting prematurely.",
        "Failed to recv, got 0 bytes. Connection was likely closed. Did the remote server shutdown or crash?",
    ],
)
def test_a_lost_peer_is_not_taken_for_a_cause_and_the_user_is_told_where_to_look(words: str) -> None:
    verdict = verdict_of(RuntimeError(words))
    assert is_lost_peer(RuntimeError(words))
    assert (verdict.exit_code, verdict.code) == (ExitCode.INCOMPLETE, "RankLost")
    assert "torchrun names the first rank that failed" in verdict.message


def test_an_error_of_a_ranks_own_is_no_lost_peer() -> None:
    assert verdict_of(RuntimeError("shape mismatch")).code == "InternalError"


def test_a_full_disk_is_named_with_what_remains(tmp_path: Path) -> None:
    failure = save_failure(OSError(errno.ENOSPC, "No space left on device"), CheckpointStore(tmp_path), 8)
    assert isinstance(failure, IncompleteError)
    assert failure.code == "StorageFull"
    assert "step 8" in failure.message
    assert "no space is left" in failure.message
    assert "no earlier one" in failure.message


def test_other_errors_while_saving_keep_their_name(tmp_path: Path) -> None:
    assert save_failure(ValueError("a bug"), CheckpointStore(tmp_path), 8) is None
