"""What a run will need is told from the headers of the weights, and is what training itself will resolve."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fettle_trainer.__main__ import main
from fettle_trainer.commands.run_file import allowed_networks
from fettle_trainer.config import DatasetReport, RunConfig
from fettle_trainer.train.forecast import shape_from_headers
from fettle_trainer.train.job import make_job
from fettle_trainer.train.model import model_shape
from fettle_trainer.train.settings import adapter_rank
from hub_stand_in import hub_serving
from tiny_models import FAMILIES

Tiny = Callable[[str], Path]
ON_THE_HUB = {"model": {"huggingFace": {"repo": "org/base"}}}


def document(model: Path, folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "model": {"path": str(model)},
        "dataset": {"train": [{"path": str(folder / "a.jsonl")}]},
        "output": {"directory": str(folder), "adapterName": "a"},
        **more,
    }


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_headers_tell_the_shape_that_the_model_has(
    family: str, method: str, tiny: Tiny, tmp_path: Path
) -> None:
    config = RunConfig.model_validate(document(tiny(family), tmp_path, method=method))
    wanted = model_shape(tiny(family), config.method, config.lora, adapter_rank(config, None))
    assert shape_from_headers(config, tiny(family)) == wanted


def checked(folder: Path, run: dict[str, Any], *arguments: str) -> DatasetReport:
    rows = [{"prompt": f"What is {n}?", "completion": "A number. " * 4} for n in range(100)]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "run.json").write_text(json.dumps(run))
    assert main(["check", str(folder / "run.json"), "--report", str(folder / "report.json"), *arguments]) == 0
    return DatasetReport.model_validate_json((folder / "report.json").read_bytes())


def test_the_check_forecasts_for_this_machine(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = document(tiny("qwen2"), tmp_path, training={"epochs": 2, "batchSize": 10})

    found = checked(tmp_path, run).forecast

    assert found is not None
    assert (found.device, found.steps, found.batch_size, found.fits) == ("cpu", 20, 10, True)
    assert found.memory_bytes > (tiny("qwen2") / "model.safetensors").stat().st_size
    assert found.seconds is not None
    assert "forecast for this machine's CPU: 20 steps of 10 rows" in capsys.readouterr().err


def test_the_check_forecasts_for_a_gpu_that_is_named(tiny: Tiny, tmp_path: Path) -> None:
    run = document(tiny("qwen2"), tmp_path, method="full")

    known = checked(tmp_path, run, "--gpu", "NVIDIA H100 80GB HBM3").forecast
    small = checked(tmp_path, run, "--gpu", "Other", "--gpu-memory", "0.001").forecast

    assert known is not None
    assert (known.precision, known.fits, known.device) == ("bf16", True, "NVIDIA H100 80GB HBM3")
    assert known.seconds is not None
    assert known.resolved["training.precision"] == "bf16"
    assert known.resolved["output.exports"] == "merged"
    assert "lora.rank" not in known.resolved
    assert small is not None
    assert (small.fits, small.seconds) == (False, None)


def test_what_the_hardware_cannot_do_does_not_condemn_the_data(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = document(tiny("qwen2"), tmp_path, training={"optimizer": "adamw-8bit"})

    assert checked(tmp_path, run).forecast is None

    assert "no forecast for cpu: training.optimizer adamw-8bit needs a GPU" in capsys.readouterr().err
    assert checked(tmp_path, run, "--gpu", "NVIDIA H100").forecast is not None


def test_a_model_on_the_hub_is_forecast_without_a_weight_of_it(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    here = checked(tmp_path, document(tiny("qwen2"), tmp_path))
    files = {path.name: path.read_bytes() for path in tiny("qwen2").iterdir() if path.is_file()}
    there = document(tiny("qwen2"), tmp_path) | ON_THE_HUB

    with hub_serving({"models/org/base": files}) as (hub, address):
        monkeypatch.setenv("HF_ENDPOINT", address)
        found = checked(tmp_path, there)

    weights = [path for path, _ in hub.seen if path.endswith(".safetensors")]
    assert weights
    assert hub.parts == weights, "more than the header of the weights was asked for"
    assert found.tokens == here.tokens
    assert found.forecast is not None
    assert here.forecast is not None
    assert found.forecast.model_copy(update={"seconds": None}) == here.forecast.model_copy(
        update={"seconds": None}
    )


def test_without_a_way_to_the_hub_the_data_is_checked_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = checked(tmp_path, document(tmp_path, tmp_path) | ON_THE_HUB)
    assert (report.rows > 0, report.tokens) == (True, None)
    assert "tokens are not counted: org/base could not be fetched" in capsys.readouterr().err


def test_the_forecast_counts_the_steps_of_packed_rows_as_training_does(tiny: Tiny, tmp_path: Path) -> None:
    training = {"epochs": 2, "batchSize": 4, "packing": True, "maxLength": 256}
    run = document(tiny("qwen2"), tmp_path, training=training)

    report = checked(tmp_path, run)

    assert report.tokens is not None
    resolved = make_job(RunConfig.model_validate(run), allowed_networks()).resolved
    assert report.forecast is not None
    assert report.forecast.steps == report.predicted_steps == resolved.total_steps
    assert resolved.total_steps < 2 * report.tokens.rows / 4
