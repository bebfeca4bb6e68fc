"""`train`, then `evaluate` and `export` on what it left: the commands as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fettle_trainer.__main__ import main
from fettle_trainer.adapter.verify import verify_adapter
from finished_runs import run_config

Tiny = Callable[[str], Path]


@pytest.fixture(scope="module")
def trained(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of four steps: run.json, and everything that `train` left."""
    folder = tmp_path_factory.mktemp("trained")
    training = {
        "maxSteps": 4, "batchSize": 4, "learningRate": 0.02, "saveEvery": 2, "evalEvery": 2, "logEvery": 1,
    }  # fmt: skip
    config = run_config(tiny("llama"), folder, training=training, tracking={"progressPort": None})
    (folder / "run.json").write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    assert main(["train", str(folder / "run.json"), "--termination-log", str(folder / "log")]) == 0
    return folder


def changed(folder: Path, **changes: Any) -> str:
    """Return a run's file that differs in some parts."""
    document = json.loads((folder / "run.json").read_text())
    path = folder / "changed.json"
    path.write_text(json.dumps(document | changes))
    return str(path)


def releases(folder: Path) -> list[Path]:
    return sorted((folder / "out" / "tone").iterdir())


def test_a_run_leaves_its_metrics_in_every_form(trained: Path) -> None:
    work = trained / "out" / ".fettle" / "tone"
    lines = [json.loads(line) for line in (work / "metrics.jsonl").read_text().splitlines()]
    assert sorted({line["step"] for line in lines if "loss" in line}) == [1, 2, 3, 4]
    assert (work / "loss.png").read_bytes().startswith(b"\x89PNG")
    rows = (work / "results.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["step", "1", "2", "3", "4"]
    assert rows[2].count(",,") == 0  # step 2 was logged and evaluated
    manifest = json.loads((releases(trained)[0] / "manifest.json").read_text())
    assert manifest["settings"]["resolved"]["learning_rate"] == 0.02


def test_evaluate_measures_what_was_released_last(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(trained / "run.json"), "--output", str(tmp_path / "again")]) == 0
    printed = capsys.readouterr().out
    again = json.loads((tmp_path / "again" / "evaluation.json").read_text())
    first = json.loads((trained / "out" / ".fettle" / "tone" / "evaluation.json").read_text())
    assert again == first
    assert again["tuned"]["loss"] < again["base"]["loss"]
    assert f"exact-match{again['base']['exact-match']:>15.4g}" in printed


def test_evaluate_answers_a_missed_gate_with_its_own_code(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gates = [{"metric": "loss", "minGainOverBase": 1000.0}]
    run = changed(trained, evaluation={"metrics": ["loss"], "samples": 0, "gates": gates})
    assert main(["evaluate", run, "--output", str(tmp_path)]) == 3
    assert "gate loss minGainOverBase 1000: " in capsys.readouterr().out


def test_export_releases_a_checkpoint_and_its_merged_model(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = releases(trained)
    command = ["export", str(trained / "run.json"), "--checkpoint", "checkpoint-2"]
    assert main([*command, "--format", "adapter", "--format", "merged"]) == 0
    adapter, merged = (Path(line) for line in capsys.readouterr().out.splitlines())
    assert (verify_adapter(adapter).artefact, verify_adapter(merged).artefact) == ("adapter", "model")
    assert releases(trained) == sorted([*before, adapter, merged])


def test_export_of_the_last_checkpoint_is_the_release_itself(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = releases(trained)
    assert main(["export", str(trained / "run.json"), "--checkpoint", "newest"]) == 0
    assert Path(capsys.readouterr().out.strip()) in before
    assert releases(trained) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["export", "--format", "onnx"], "onnx is not made by this release"),
        (["export", "--checkpoint", "checkpoint-99"], "checkpoint-99 cannot be exported"),
        (["export", "--checkpoint", "elsewhere"], "elsewhere is no checkpoint's name"),
        (["evaluate", "--adapter", "/nowhere"], "/nowhere: The directory /nowhere does not exist"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_sentence(
    trained: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    command, *options = words
    assert main([command, str(trained / "run.json"), *options]) == 2
    assert sentence in capsys.readouterr().err


def test_a_checkpoint_of_another_run_is_not_exported(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = changed(trained, training={"maxSteps": 4, "learningRate": 0.01, "saveEvery": 2, "batchSize": 4})
    assert main(["export", run]) == 2
    assert "belongs to a run with other settings" in capsys.readouterr().err
