"""`train`, then `evaluate` and `export` on what it left: the commands as a user types them."""

from __future__ import annotations

import json
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from fettle_trainer.__main__ import main
from fettle_trainer.adapter.verify import verify_adapter
from fettle_trainer.config.progress import ProgressReport
from fettle_trainer.train.engine import Engine
from finished_runs import run_config
from free_ports import free_port

Tiny = Callable[[str], Path]


@pytest.fixture(scope="module")
def trained(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of four steps: run.json, and everything that `train` left."""
    folder = tmp_path_factory.mktemp("trained")
    training = {
        "maxSteps": 4, "batchSize": 4, "learningRate": 0.02, "saveEvery": 2, "evalEvery": 2, "logEvery": 1,
    }  # fmt: skip
    port = free_port()
    config = run_config(tiny("llama"), folder, training=training, tracking={"progressPort": port})
    (folder / "run.json").write_text(config.model_dump_json(by_alias=True, exclude_none=True))
    with looking_on(port, folder / "progress.jsonl"):
        assert main(["train", str(folder / "run.json"), "--termination-log", str(folder / "log")]) == 0
    return folder


@contextmanager
def looking_on(port: int, seen: Path) -> Iterator[None]:
    """Ask for the progress as fast as it answers, and write down every answer that differs from the last."""
    over = threading.Event()

    def look() -> None:
        last = ""
        while not over.wait(0.01):
            with (
                suppress(OSError),
                urllib.request.urlopen(f"http://127.0.0.1:{port}/progress", timeout=10) as page,
            ):
                if (text := page.read().decode()) != last:
                    last = text
                    with seen.open("a") as file:
                        file.write(text + "\n")

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def changed(folder: Path, **changes: Any) -> str:
    """Return a run's file that differs in some parts."""
    document = json.loads((folder / "run.json").read_text())
    path = folder / "changed.json"
    path.write_text(json.dumps(document | changes))
    return str(path)


def releases(folder: Path) -> list[Path]:
    return sorted((folder / "out" / "tone").iterdir())


def test_who_asks_while_it_runs_is_told_how_far_it_is(trained: Path) -> None:
    seen = [
        ProgressReport.model_validate_json(line)
        for line in (trained / "progress.jsonl").read_text().splitlines()
    ]
    assert [report.step for report in seen] == sorted(report.step for report in seen)
    last = seen[-1]
    assert (last.step, last.total_steps, last.summary) == (4, 4, "4/4 (100%)")
    assert last.phase in {"exporting", "evaluating", "done"}
    assert last.remaining_seconds == 0
    assert last.loss is not None
    assert last.eval_loss is not None
    assert last.tokens_per_second is not None
    assert last.tokens_per_second > 0
    assert last.mfu is None  # nobody knows this processor's peak
    assert 0 <= (last.data_wait_share or 0) <= 1
    assert (last.peak_memory_bytes or 0) > 2**27


def test_training_goes_on_from_a_release_and_says_so(trained: Path, tiny: Tiny, tmp_path: Path) -> None:
    parent = releases(trained)[0]
    output = {"directory": str(tmp_path), "adapterName": "child"}
    model = {"path": str(tiny("llama")), "adapter": str(parent)}
    run = changed(trained, output=output, model=model, training={"maxSteps": 4, "learningRate": 0.002})
    assert main(["train", run, "--termination-log", str(tmp_path / "log")]) == 0
    [child] = (tmp_path / "child").iterdir()
    manifest = json.loads((child / "manifest.json").read_text())
    assert manifest["parent"] == json.loads((parent / "manifest.json").read_text())["digest"]
    metrics = manifest["metrics"]
    first = json.loads((trained / "out" / ".fettle" / "tone" / "evaluation.json").read_text())
    assert metrics["loss"] < first["tuned"]["loss"]
    assert metrics["base-loss"] == pytest.approx(first["base"]["loss"])


def test_an_adapter_is_not_continued_on_another_base(
    trained: Path, tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = {"directory": str(tmp_path), "adapterName": "child"}
    model = {"path": str(tiny("mistral")), "adapter": str(releases(trained)[0])}
    assert main(["train", changed(trained, output=output, model=model)]) == 2
    assert "was trained on a base with the digest sha256:" in capsys.readouterr().err


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


def test_a_run_that_crashed_and_went_on_has_measured_every_step_once(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = {"directory": str(tmp_path), "adapterName": "tone"}
    run = changed(trained, output=output, tracking={"progressPort": None})
    command = ["train", run, "--termination-log", str(tmp_path / "log")]
    steps = iter(range(4))
    original = Engine.training_step

    def crashing(self: Engine, *inputs: Any, **more: Any) -> Any:
        if next(steps) == 3:
            raise OSError(5, "Input/output error")
        return original(self, *inputs, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "training_step", crashing)
        assert main(command) == 1
    assert [step for step, _ in losses(tmp_path / ".fettle" / "tone")] == [1, 2, 3]
    assert main(command) == 0
    assert losses(tmp_path / ".fettle" / "tone") == losses(trained / "out" / ".fettle" / "tone")


def losses(work: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (work / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


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
