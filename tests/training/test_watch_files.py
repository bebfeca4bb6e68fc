"""What a run writes down while it goes on."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fettle_trainer.watch.board import Board
from fettle_trainer.watch.console import JsonLines, console
from fettle_trainer.watch.loss_curve import LossCurve
from fettle_trainer.watch.metrics_file import MetricsFile, read_metrics
from fettle_trainer.watch.observer import Position
from fettle_trainer.watch.results_csv import ResultsCsv, results_csv
from fettle_trainer.watch.tensorboard import TensorBoard

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def at(step: int) -> Position:
    return Position(step=step, total_steps=10, epoch=step / 10)


def write_metrics(path: Path, steps: range, *, start: int = 0) -> MetricsFile:
    metrics = MetricsFile(path, clock=lambda: NOON)
    metrics.begins(at(start))
    for step in steps:
        metrics.logs(at(step), {"loss": 5.0 - step, "mean_token_accuracy": step / 10})
        if step % 2 == 0:
            metrics.logs(at(step), {"eval_loss": 6.0 - step, "eval_mean_token_accuracy": step / 20})
    return metrics


def test_a_resumed_run_neither_repeats_nor_contradicts_a_step(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_metrics(path, range(1, 6))
    with path.open("a") as file:
        file.write('{"step": 6, "lo')  # torn by a kill
    write_metrics(path, range(3, 8), start=2)
    whole = tmp_path / "whole.jsonl"
    write_metrics(whole, range(1, 8))
    assert path.read_text() == whole.read_text()


def test_a_run_that_begins_anew_forgets_the_file_of_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_metrics(path, range(1, 6))
    write_metrics(path, range(1, 2))
    assert [line["step"] for line in read_metrics(path)] == [1]


def test_a_loss_that_is_no_number_is_still_json(tmp_path: Path) -> None:
    metrics = MetricsFile(tmp_path / "metrics.jsonl", clock=lambda: NOON)
    metrics.begins(at(0))
    metrics.logs(at(1), {"loss": float("nan")})
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["loss"] is None


def test_results_have_the_columns_that_azure_users_know(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    write_metrics(metrics, range(1, 3))
    ResultsCsv(tmp_path / "results.csv", metrics).ends(at(2))
    text = (tmp_path / "results.csv").read_text()
    assert text.splitlines()[0] == (
        "step,train_loss,train_mean_token_accuracy,valid_loss,validation_mean_token_accuracy,"
        "full_valid_loss,full_valid_mean_token_accuracy"
    )
    first, second = csv.DictReader(io.StringIO(text))
    assert (first["step"], first["train_loss"], first["valid_loss"]) == ("1", "4.0", "")
    assert (second["train_loss"], second["valid_loss"], second["full_valid_loss"]) == ("3.0", "4.0", "4.0")
    assert second["validation_mean_token_accuracy"] == second["full_valid_mean_token_accuracy"] == "0.1"


def test_what_is_neither_loss_nor_accuracy_makes_no_row() -> None:
    assert results_csv([{"step": 3, "train_runtime": 1.0}]).count("\n") == 1


def test_the_curve_is_a_picture_and_absent_when_nothing_was_measured(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    curve = LossCurve(tmp_path / "loss.png", metrics)
    curve.ends(at(0))
    assert not (tmp_path / "loss.png").exists()
    write_metrics(metrics, range(1, 6))
    curve.ends(at(5))
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_tensorboard_reads_what_was_written_and_a_resume_takes_back_the_lost_steps(tmp_path: Path) -> None:
    for start, steps in ((0, range(1, 6)), (3, range(4, 8))):
        board = TensorBoard(tmp_path)
        board.begins(at(start))
        for step in steps:
            board.logs(at(step), {"loss": float(step + 100 * start), "eval_loss": 1.0})
        board.ends(at(5))
    events = EventAccumulator(str(tmp_path)).Reload()
    losses = {event.step: event.value for event in events.Scalars("train/loss")}
    assert losses == {1: 1, 2: 2, 3: 3, 4: 304, 5: 305, 6: 306, 7: 307}
    assert "eval/loss" in events.Tags()["scalars"]


def test_a_pod_gets_json_lines_and_a_terminal_gets_one_line() -> None:
    board, pod, terminal = Board(), io.StringIO(), _Terminal()
    board.update(loss=1.5, eta="3s", remaining_seconds=3, tokens_per_second=1234.0)
    for observer in (console(pod, board), console(terminal, board)):
        observer.begins(at(4))
        observer.step_ends(at(5))
        observer.logs(at(5), {"loss": 1.5, "grad_norm": float("inf")})
        observer.ends(at(5))
    assert json.loads(pod.getvalue()) == {
        "step": 5,
        "totalSteps": 10,
        "loss": 1.5,
        "tokensPerSecond": 1234.0,
        "eta": "3s",
    }
    last = terminal.getvalue().rstrip("\n").rpartition("\r")[2]
    assert "5/10" in last
    assert "1,234 tokens/s, 3s left" in last
    assert terminal.getvalue().count("\n") == 1


def test_json_lines_are_for_streams_that_are_no_terminal() -> None:
    assert isinstance(console(io.StringIO(), Board()), JsonLines)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
