"""Progress over HTTP, and observers that cannot harm what they observe."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
from prometheus_client.parser import text_string_to_metric_families
from transformers import TrainerControl, TrainerState

from fettle_trainer.config.progress import ProgressReport
from fettle_trainer.config.run import MetricName
from fettle_trainer.watch.board import Board
from fettle_trainer.watch.callback import Watch
from fettle_trainer.watch.observer import Observer, Position
from fettle_trainer.watch.progress import Progress
from fettle_trainer.watch.server import Address, ProgressServer

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
LOCAL = Address(port=0)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def trained_board() -> Board:
    """A run of 20 steps that has done two of 2 s each, with an evaluation of 100 s between them."""
    board, clock = Board(clock=lambda: NOON), Clock()
    progress = Progress(board, lambda: 4096, flops_per_token=1e9, peak_flops=1e12, clock=clock)
    progress.begins(Position(10, 20, 0.5))
    logged = {"loss": 1.5, "learning_rate": 1e-4, "grad_norm": 0.7, "mean_token_accuracy": 0.6}
    for step, tokens in ((11, 100), (12, 300)):
        at = Position(step, 20, step / 20)
        clock.now += 2
        progress.step_ends(at)
        progress.logs(at, {**logged, "num_tokens": tokens, "data_wait_s": 0.5, "padding_share": 0.25})
        clock.now += 100
        progress.evaluates(at)
        assert board.read().phase == "evaluating"
        progress.logs(at, {"eval_loss": 1.25, "eval_mean_token_accuracy": 0.5})
        progress.evaluated(at)
    return board


def get(server: ProgressServer, path: str) -> tuple[str, bytes]:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=10) as answer:
        return answer.headers["Content-Type"], answer.read()


def test_progress_tells_everything_that_is_known() -> None:
    with ProgressServer(trained_board(), LOCAL, pytest.fail) as server:
        kind, body = get(server, "/progress")
    assert kind == "application/json"
    assert json.loads(body) == {
        "phase": "training",
        "step": 12,
        "firstStep": 10,
        "totalSteps": 20,
        "epoch": 0.6,
        "loss": 1.5,
        "evalLoss": 1.25,
        "tokenAccuracy": 0.6,
        "evalTokenAccuracy": 0.5,
        "learningRate": 1e-4,
        "gradNorm": 0.7,
        "tokensPerSecond": 100.0,
        "paddingShare": 0.25,
        "dataWaitShare": 0.25,
        "mfu": 0.1,
        "peakMemoryBytes": 4096,
        "remainingSeconds": 16,
        "eta": "16s",
        "summary": "12/20 (60%)",
        "resolved": {},
        "updatedAt": "2026-01-02T12:00:00Z",
    }


def test_prometheus_reads_the_same_figures() -> None:
    with ProgressServer(trained_board(), LOCAL, pytest.fail) as server:
        _, body = get(server, "/metrics")
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert samples["fettle_training_step"] == 12
    assert samples["fettle_training_tokens_per_second"] == 100
    assert samples["fettle_training_remaining_seconds"] == 16
    assert samples["fettle_training_model_flops_utilization_ratio"] == pytest.approx(0.1)
    known = {name for name, value in trained_board().read() if isinstance(value, float | int)}
    assert len(samples) == len(known) + 2  # and the phase, and the time


def test_a_diverged_run_is_still_served() -> None:
    board = Board()
    progress = Progress(board, lambda: 1)
    progress.begins(Position(0, 5))
    progress.logs(Position(1, 5), {"loss": float("nan"), "grad_norm": float("inf")})
    assert ProgressReport.model_validate_json(board.read().model_dump_json()).loss is None


def test_other_paths_are_not_found() -> None:
    with (
        ProgressServer(Board(), LOCAL, pytest.fail) as server,
        pytest.raises(urllib.error.HTTPError) as caught,
    ):
        get(server, "/etc/passwd")
    assert caught.value.code == 404


def test_silent_readers_do_not_keep_others_out() -> None:
    with ProgressServer(Board(), LOCAL, pytest.fail) as server:
        silent = [socket.create_connection(("127.0.0.1", server.port or 0)) for _ in range(8)]
        assert json.loads(get(server, "/progress")[1])["phase"] == "preparing"
        for connection in silent:
            connection.close()


def test_a_port_that_is_taken_is_told_and_fails_nothing() -> None:
    told: list[str] = []
    with ProgressServer(Board(), LOCAL, pytest.fail) as first:
        assert first.port is not None
        with ProgressServer(Board(), Address(port=first.port), told.append) as second:
            assert second.port is None
    assert len(told) == 1
    assert "Progress is not served: 127.0.0.1:" in told[0]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0.0.0.0:9400", Address("0.0.0.0", 9400)),  # noqa: S104 - what a pod is told
        (":9500", Address("127.0.0.1", 9500)),
        ("localhost", Address("localhost", 9400)),
        ("[::1]:80", Address("::1", 80)),
    ],
)
def test_an_address_is_host_and_port(text: str, address: Address) -> None:
    assert Address.parse(text) == address


@pytest.mark.parametrize("text", ["host:port", "host:70000", "host:-1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        Address.parse(text)


class _Recorder(Observer):
    def __init__(self) -> None:
        self.heard: list[Mapping[str, float]] = []

    def logs(self, at: Position, values: Mapping[str, float]) -> None:  # noqa: ARG002 - the interface
        self.heard.append(values)


class _Broken(Observer):
    def logs(self, at: Position, values: Mapping[str, float]) -> None:  # noqa: ARG002 - the interface
        raise OSError(28, "No space left on device")


def test_an_observer_that_fails_is_told_once_and_the_others_go_on() -> None:
    told: list[str] = []
    recorder = _Recorder()
    watch = Watch([_Broken(), recorder], told.append)
    for step in (1, 2):
        watch.on_log(_ARGS, _state(step), TrainerControl(), logs={"loss": 1.0, "note": "text"})
    assert recorder.heard == [{"loss": 1.0}] * 2
    assert len(told) == 1
    assert "_Broken" in told[0]
    assert "No space left" in told[0]


def test_only_the_first_rank_watches() -> None:
    recorder = _Recorder()
    state = _state(1)
    state.is_world_process_zero = False
    Watch([recorder], pytest.fail).on_log(_ARGS, state, TrainerControl(), logs={"loss": 1.0})
    assert recorder.heard == []


_ARGS = SimpleNamespace(world_size=1)


def _state(step: int) -> TrainerState:
    return TrainerState(global_step=step, max_steps=5, epoch=0.5)


def test_the_guide_explains_every_field_of_the_report_and_every_metric() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "guides" / "results.md").read_text()
    fields = {field.alias or name for name, field in ProgressReport.model_fields.items()} - {"updatedAt"}
    assert [name for name in sorted(fields | set(get_args(MetricName))) if f"`{name}`" not in guide] == []


def test_a_cluster_of_ipv6_is_served_where_the_machine_can() -> None:
    with ProgressServer(Board(), Address("::1", 0), lambda _: None) as server:
        assert (server.port is not None) == _has_ipv6()


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
