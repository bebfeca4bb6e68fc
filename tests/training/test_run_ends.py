"""How a whole run ends: the exit code, the outcome in the termination message, and what is left on the disk."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fettle_trainer.__main__ import main
from fettle_trainer.config.outcome import Outcome
from fettle_trainer.train.engine import Engine

ROWS = [
    {
        "messages": [
            {"role": "user", "content": f"What is {n}?"},
            {"role": "assistant", "content": f"It is {2 * n}."},
        ]
    }
    for n in range(40)
]


class Run:
    """A run's file in a folder of its own."""

    def __init__(self, folder: Path, base: Path) -> None:
        self.folder = folder
        self.document: dict[str, Any] = {
            "model": {"path": str(base)},
            "dataset": {"train": [{"path": str(folder / "data.jsonl")}], "validationSplit": "20%"},
            "training": {"maxSteps": 4, "batchSize": 4, "learningRate": 0.01},
            "evaluation": {"metrics": ["loss", "exact-match"], "samples": 4},
            "output": {"directory": str(folder / "store"), "adapterName": "tuned"},
        }
        self.rows(ROWS)

    def rows(self, rows: list[dict[str, Any]]) -> None:
        (self.folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def train(self) -> tuple[int, Outcome]:
        """Train in this process, and return the exit code and the last words."""
        file, log = self.folder / "run.json", self.folder / "termination-log"
        file.write_text(json.dumps(self.document))
        log.write_bytes(b"")
        code = main(["train", str(file), "--termination-log", str(log)])
        return code, Outcome.model_validate_json(log.read_bytes())

    @property
    def released(self) -> list[Path]:
        folder = self.folder / "store" / "tuned"
        return [path for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []

    @property
    def work(self) -> Path:
        return self.folder / "store" / ".fettle" / "tuned"


@pytest.fixture
def run(tmp_path: Path, tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> Run:
    # The run takes secrets out of the environment; what it does is undone here.
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    return Run(tmp_path, tiny("llama"))


def test_a_good_run_releases_a_verified_adapter_and_says_where(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    code, outcome = run.train()
    assert (code, outcome.outcome, outcome.step) == (0, "succeeded", 4)
    assert outcome.adapter is not None
    folder = run.folder / "store" / outcome.adapter.path
    assert run.released == [folder]
    assert {"loss", "exact-match", "base-loss", "base-exact-match", "evalLoss"} <= outcome.metrics.keys()
    assert outcome.resolved.keys().isdisjoint(
        {"training.maxSteps", "training.batchSize", "training.learningRate"}
    )
    assert outcome.resolved["training.microBatchSize"] == "4"
    assert outcome.resolved["training.precision"] == "fp32"
    assert outcome.resolved["lora.alpha"] == "32"
    assert outcome.resolved["dataset.format"] == "chat"
    assert all((run.folder / "store" / path).is_file() for path in outcome.reports.values())
    capsys.readouterr()
    assert main(["verify", "--directory", str(folder)]) == 0


def test_the_settings_are_left_with_every_value_and_its_reason(run: Run) -> None:
    run.train()
    resolved = json.loads((run.work / "resolved.json").read_text())
    assert None not in [value for name, value in resolved.items() if name != "eval_every"]
    assert resolved["reasons"]["precision"].startswith("fp32")
    receipt = json.loads((run.work / "receipt.json").read_text())
    assert 0 < receipt["trainedTokenShare"] < 1


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"model": {"path": "/nowhere"}}, "ModelMissing", "model"),
        ({"training": {"precision": "bf16"}}, "PrecisionUnsupported", "training.precision"),
        ({"training": {"loss": {"plugin": "no-such-loss"}}}, "PluginUnknown", "training.loss.plugin"),
        ({"training": {"loss": {"plugin": "focal", "settings": {"gama": "2"}}}}, "PluginSettings", "training.loss.settings"),
        ({"training": {"loss": {"classWeights": {"spam": 2}}}}, "ClassUnknown", "training.loss.classWeights"),
        ({"lora": {"targetModules": ["query"]}}, "TargetModulesUnknown", "lora.targetModules"),
        ({"output": {"directory": "/tmp/x", "adapterName": "a", "exports": ["gguf"]}}, "ExportUnsupported", "output.exports"),
        ({"training": {"epochs": 1, "maxSteps": 1}}, "ConfigInvalid", None),
    ],
)  # fmt: skip
def test_wrong_settings_end_with_2_and_the_name_of_the_field(
    run: Run, change: dict[str, Any], code: str, param: str | None
) -> None:
    run.document |= change
    exit_code, outcome = run.train()
    assert (exit_code, outcome.outcome) == (2, "failed")
    assert outcome.error is not None
    assert outcome.error.code == code
    assert param is None or outcome.error.param == param
    assert "Traceback" not in outcome.error.message
    assert run.released == []


def test_bad_rows_end_with_2_before_any_weight_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fettle_trainer.train.fit.load_base", lambda *_: pytest.fail("weights were read"))
    run.rows([*ROWS, {"messages": [{"role": "robot", "content": "x"}]}])
    code, outcome = run.train()
    assert code == 2
    assert outcome.error is not None
    assert "data.jsonl:41" in outcome.error.message


def test_a_missed_gate_ends_with_3_and_keeps_everything_but_the_release(run: Run) -> None:
    run.document["evaluation"]["gates"] = [{"metric": "exact-match", "min": 1.0}]
    code, outcome = run.train()
    assert (code, outcome.outcome) == (3, "gateMissed")
    assert outcome.error is not None
    assert "exact-match" in outcome.error.message
    (gate,) = outcome.gates
    assert (gate.metric, gate.bound, gate.threshold, gate.passed) == ("exact-match", "min", 1.0, False)
    assert gate.value == outcome.metrics["exact-match"]
    assert run.released == []
    assert (run.work / "evaluation.json").is_file()
    assert list((run.work / "rejected").iterdir())


def test_a_run_whose_release_was_interrupted_goes_on_without_training_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("fettle_trainer.train.finishing.finish", _raise(OSError(28, "No space left on device")))
        code, outcome = run.train()
        assert (code, outcome.outcome, outcome.checkpoint_step) == (1, "failed", 4)
        assert outcome.error is not None
        assert outcome.error.code == "StorageFull"
    monkeypatch.setattr("fettle_trainer.train.steps.fit", lambda *_: pytest.fail("it trained again"))
    code, outcome = run.train()
    assert (code, outcome.outcome) == (0, "succeeded")
    assert len(run.released) == 1


def test_a_run_without_validation_rows_releases_what_it_trained(run: Run) -> None:
    run.document["dataset"]["validationSplit"] = "0%"
    run.document["evaluation"] = {}
    code, outcome = run.train()
    assert (code, outcome.outcome) == (0, "succeeded")
    assert "evalLoss" not in outcome.metrics


def test_other_settings_do_not_go_on_from_a_runs_checkpoints(run: Run) -> None:
    run.train()
    run.document["training"]["learningRate"] = 0.02
    code, outcome = run.train()
    assert code == 2
    assert outcome.error is not None
    assert (outcome.error.code, outcome.error.param) == ("CheckpointMismatch", "output.workDirectory")


def test_an_open_micro_batch_that_does_not_fit_is_halved_and_the_global_batch_stays(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = _out_of_memory_above(1, monkeypatch)
    code, _ = run.train()
    assert code == 0
    assert sizes[0] == 4
    for file in ("fitted.json", "resolved.json"):
        assert json.loads((run.work / file).read_text())["micro_batch_size"] == 1
    states = json.loads((run.work / "checkpoints" / "checkpoint-4" / "checkpoint.json").read_text())
    assert states["facts"]["shape"]["globalBatch"] == 4


def test_a_named_micro_batch_that_does_not_fit_ends_with_86_and_the_advice(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    _out_of_memory_above(1, monkeypatch)
    run.document["training"]["microBatchSize"] = 4
    code, outcome = run.train()
    assert (code, outcome.outcome, outcome.micro_batch_size) == (86, "outOfMemory", 4)
    assert outcome.error is not None
    assert "microBatchSize to 2" in outcome.error.message


def _out_of_memory_above(rows: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    sizes: list[int] = []
    original = Engine.compute_loss

    def limited(self: Engine, model: Any, inputs: dict[str, Any], *more: Any, **named: Any) -> Any:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > rows:
            msg = "CUDA out of memory."
            raise torch.OutOfMemoryError(msg)
        return original(self, model, inputs, *more, **named)

    monkeypatch.setattr(Engine, "compute_loss", limited)
    return sizes


def _raise(error: Exception) -> Callable[..., Any]:
    def raising(*_: Any, **__: Any) -> Any:
        raise error

    return raising
