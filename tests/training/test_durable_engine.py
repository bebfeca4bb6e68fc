"""The engine itself, stopped and resumed in one process: its plan of the rows, its randomness, its early stopping."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from fettle_trainer.commands.run_file import allowed_networks
from fettle_trainer.config.run import RunConfig
from fettle_trainer.durable.stop import StopRequest
from fettle_trainer.errors import StoppedError, WrongInputError
from fettle_trainer.train.engine import Engine
from fettle_trainer.train.fit import fit
from fettle_trainer.train.job import make_job


class StopAt(TrainerCallback):
    """Asks for a stop at a step, as a signal would."""

    def __init__(self, request: StopRequest, step: int) -> None:
        self._request = request
        self._step = step

    def on_step_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        if state.global_step == self._step - 1:
            self._request.requested = signal.SIGTERM


@pytest.fixture
def config(
    tmp_path: Path, tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., RunConfig]:
    monkeypatch.setenv("HF_TOKEN", "sealed away by the run; restored here")
    rows = [{"prompt": f"{n} and {n}?", "completion": "so " * (1 + n % 7) + f"{2 * n}"} for n in range(20)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(name: str, **training: Any) -> RunConfig:
        return RunConfig.model_validate(
            {
                "model": {"path": str(tiny("llama"))},
                "dataset": {"train": [{"path": str(data)}], "validationSplit": "20%"},
                "lora": {"dropout": 0.2},
                "training": {
                    "batchSize": 4,
                    "microBatchSize": 2,
                    "learningRate": 0.01,
                    "logEvery": 1,
                    **training,
                },
                "output": {"directory": str(tmp_path / name), "adapterName": "tuned"},
            }
        )

    return make


def train(config: RunConfig, stop_at: int | None = None) -> Engine:
    request = StopRequest()
    callbacks: list[TrainerCallback] = [] if stop_at is None else [StopAt(request, stop_at)]
    return fit(make_job(config, allowed_networks()), request, callbacks)


def weights(engine: Engine) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in engine.model.named_parameters() if p.requires_grad}


def test_an_engine_that_was_stopped_twice_trains_the_same_weights(config: Callable[..., RunConfig]) -> None:
    plan: dict[str, Any] = {"maxSteps": 10, "evalEvery": 3, "saveEvery": 4}
    expected = weights(train(config("whole", **plan)))
    for step in (3, 7):  # in the middle of the first epoch, where an evaluation is due, and of the second
        with pytest.raises(StoppedError):
            train(config("stopped", **plan), stop_at=step)
    engine = train(config("stopped", **plan))
    actual = weights(engine)
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    assert [entry["step"] for entry in engine.state.log_history if "eval_loss" in entry] == [3, 6, 9, 10]


def test_early_stopping_keeps_count_over_a_stop(config: Callable[..., RunConfig]) -> None:
    plan: dict[str, Any] = {
        "maxSteps": 20,
        "evalEvery": 2,
        "earlyStopping": {"patience": 3, "minDelta": 100.0},
    }
    expected = train(config("whole", **plan)).state.global_step
    assert expected < 20
    with pytest.raises(StoppedError):
        train(config("stopped", **plan), stop_at=5)
    assert train(config("stopped", **plan)).state.global_step == expected


def test_other_settings_do_not_go_on_from_this_runs_checkpoint(config: Callable[..., RunConfig]) -> None:
    with pytest.raises(StoppedError):
        train(config("run", maxSteps=6), stop_at=2)
    with pytest.raises(WrongInputError, match=r"output\.workDirectory"):
        train(config("run", maxSteps=6, weightDecay=0.5))
