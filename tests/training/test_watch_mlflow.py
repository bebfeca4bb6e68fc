"""Reporting to trackers: everything arrives, the result too, and a server that is away costs the run nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from fettle_trainer.config.evaluation_report import EvaluationReport, GateResult
from fettle_trainer.config.run import MlflowConfig, RunConfig
from fettle_trainer.watch.mlflow import Mlflow
from fettle_trainer.watch.observer import Position
from fettle_trainer.watch.result import RunResult, tell_trackers
from fettle_trainer.watch.tensorboard import TensorBoard

RESULT = RunResult(
    step=3,
    digest="sha256:" + 64 * "a",
    report=EvaluationReport(
        row_format="chat",
        rows=2,
        samples=0,
        tuned={"loss": 1.0},
        base={"loss": 2.0},
        gates=(GateResult(metric="loss", bound="max", threshold=0.5, value=1.0, passed=False),),
    ),
    missed="The result misses loss.",
)


class StandIn(ThreadingHTTPServer):
    """The few answers of a tracking server that reporting needs."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, Any], str | None]] = []
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def sent(self, endpoint: str) -> list[dict[str, Any]]:
        return [body for path, body, _ in self.requests if path.endswith(endpoint)]


class _Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_GET(self) -> None:
        self._answer(404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such experiment"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.partition("?")[0]
        self.server.requests.append((path, body, self.headers["Authorization"]))
        run = {"info": {"run_id": "run-1", "experiment_id": "7", "status": "RUNNING"}, "data": {}}
        self._answer(
            200,
            {
                "experiments/create": {"experiment_id": "7"},
                "runs/create": {"run": run},
                "runs/update": {"run_info": run["info"]},
            }.get(path.partition("mlflow/")[2], {}),
        )

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the inherited name
        pass


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as standing_in:
        threading.Thread(target=standing_in.serve_forever, daemon=True).start()
        yield standing_in
        standing_in.shutdown()


def attempt(config: MlflowConfig, work: Path, steps: range, told: list[str]) -> None:
    mlflow = Mlflow(config, "support-tone", {"learningRate": "0.0002"}, work, told.append)
    mlflow.begins(Position(steps.start - 1, 4))
    for step in steps:
        mlflow.logs(Position(step, 4), {"loss": 1 / step, "grad_norm": float("nan")})
    mlflow.ends(Position(steps.stop - 1, 4))


def test_every_measurement_arrives_in_one_run_over_two_attempts(server: StandIn, tmp_path: Path) -> None:
    told: list[str] = []
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    config = MlflowConfig(tracking_uri=server.uri, experiment="tone", token_file=str(token))
    attempt(config, tmp_path, range(1, 3), told)
    attempt(config, tmp_path, range(3, 5), told)
    assert told == []
    assert [body["name"] for body in server.sent("experiments/create")] == ["tone"]
    assert len(server.sent("runs/create")) == 1
    batches = server.sent("runs/log-batch")
    assert batches[0]["params"] == [{"key": "learningRate", "value": "0.0002"}]
    measured = {
        (metric["key"], int(metric.get("step", 0))): metric["value"]
        for batch in batches
        for metric in batch.get("metrics", [])
    }
    assert measured == {("loss", step): pytest.approx(1 / step) for step in range(1, 5)}
    assert [body["status"] for body in server.sent("runs/update")] == ["KILLED", "FINISHED"]
    assert {authorization for _, _, authorization in server.requests} == {"Bearer s3cret"}


def test_a_server_that_is_away_is_told_once_and_the_run_goes_on(tmp_path: Path) -> None:
    told: list[str] = []
    with StandIn() as gone:
        uri = gone.uri
    attempt(MlflowConfig(tracking_uri=uri), tmp_path, range(1, 5), told)
    assert len(told) == 1
    assert uri in told[0]
    assert "The training goes on." in told[0]


def test_the_result_is_added_to_the_run_that_training_has_left(server: StandIn, tmp_path: Path) -> None:
    told: list[str] = []
    tracking = {"mlflow": {"trackingUri": server.uri}}
    attempt(MlflowConfig(tracking_uri=server.uri), tmp_path, range(1, 5), told)

    tell_trackers(tracked(tmp_path, tracking), tmp_path, RESULT, told.append)

    assert told == []
    assert len(server.sent("runs/create")) == 1
    numbers, tags = (server.sent("runs/log-batch")[at] for at in (-2, -1))
    assert {metric["key"]: (metric["value"], metric["step"]) for metric in numbers["metrics"]} == {
        "tuned/loss": (1.0, 3), "base/loss": (2.0, 3), "gate/loss-max": (1.0, 3),
    }  # fmt: skip
    assert {tag["key"]: tag["value"] for tag in tags["tags"]} == {
        "fettle.digest": RESULT.digest,
        "fettle.released": "false",
        "fettle.gates": "The result misses loss.",
    }
    assert [body["status"] for body in server.sent("runs/update")] == ["FINISHED", "FAILED"]


def test_tensorboard_shows_the_result_beside_the_curves(tmp_path: Path) -> None:
    curve = TensorBoard(tmp_path / "tensorboard")
    curve.begins(Position(0, 9))
    curve.logs(Position(9, 9), {"loss": 1.5})
    curve.ends(Position(9, 9))

    tell_trackers(tracked(tmp_path, {"tensorboard": True}), tmp_path, RESULT, pytest.fail)

    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("base/loss")] == [(3, 2.0)]
    assert [event.step for event in events.Scalars("train/loss")] == [9], "the result is of an earlier step"
    [text] = events.Tensors("result/text_summary")
    assert RESULT.digest in text.tensor_proto.string_val[0].decode()


def tracked(folder: Path, tracking: dict[str, Any]) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"path": "base"},
            "dataset": {"train": [{"path": "data.jsonl"}]},
            "output": {"directory": str(folder), "adapterName": "support-tone"},
            "tracking": tracking,
        }
    )
