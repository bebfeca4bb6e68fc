"""The run configuration: what it accepts, what it refuses and how it says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import fettle_trainer.config
from fettle_trainer.__main__ import main
from fettle_trainer.config import RunConfig

SMALLEST: dict[str, Any] = {
    "model": {"path": "/models/base"},
    "dataset": {"train": [{"path": "/data/train.jsonl"}]},
    "output": {"directory": "/store", "adapterName": "support-bot"},
}
EVERYTHING: dict[str, Any] = {
    "schemaVersion": 1,
    "model": {
        "huggingFace": {"repo": "org/base", "revision": "main", "tokenFile": "/secrets/token"},
        "adapter": "/store/earlier",
        "digest": "sha256:" + "0" * 64,
    },
    "dataset": {
        "train": [
            {"path": "/data/0/**/*.jsonl.gz", "root": "/data/0"},
            {"huggingFace": {"repo": "org/set", "revision": "main", "subset": "en", "split": "train"}},
            {"http": {"url": "https://example.com/d.csv", "sha256": "0" * 64, "maxBytes": 1000}},
        ],
        "validationSplit": "5%",
        "format": "prompt-completion",
        "columns": {"prompt": "question", "completion": "answer", "roles": {"user": "human"}},
        "template": "### Q: {question}\n### A: {answer}",
        "maxBadRows": 3,
    },
    "method": "dora",
    "lora": {"rank": 16, "alpha": 32, "dropout": 0.1, "targetModules": ["q_proj"], "loraPlusRatio": 16},
    "training": {
        "epochs": 2.5,
        "learningRate": 2e-4,
        "batchSize": 16,
        "microBatchSize": 4,
        "schedule": "wsd",
        "warmup": "3%",
        "loss": {"trainOn": "completion", "plugin": "focal", "settings": {"gamma": "2"}},
        "maxLength": 4096,
        "overlong": "truncate",
        "packing": True,
        "earlyStopping": {"patience": 2},
    },
    "distributed": {"nodes": 2, "processesPerNode": 4, "zero": {"stage": 3, "offload": "parameters"}},
    "evaluation": {"metrics": ["loss", "rouge-l"], "gates": [{"metric": "loss", "max": 2.0}]},
    "output": {"directory": "/store", "adapterName": "a", "exports": ["adapter", "merged"]},
    "tracking": {"tensorboard": True, "mlflow": {"trackingUri": "https://mlflow.example.com"}},
}


@pytest.mark.parametrize("document", [SMALLEST, EVERYTHING], ids=["smallest", "everything"])
def test_a_configuration_survives_the_way_to_the_pod(document: dict[str, Any]) -> None:
    config = RunConfig.model_validate(document)

    assert RunConfig.model_validate_json(config.model_dump_json(by_alias=True)) == config


def changed(path: str, value: object) -> dict[str, Any]:
    document: dict[str, Any] = {key: dict(part) for key, part in SMALLEST.items()}
    *parents, last = path.split(".")
    place = document
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("colour", "red", "colour"),
        ("training.learningrate", 1, "training.learningrate"),
        ("model", {}, "model"),
        ("model", {"path": "/m", "huggingFace": {"repo": "a/b"}}, "model"),
        ("dataset.train", [], "dataset.train"),
        (
            "dataset.train",
            [{"path": "a", "http": {"url": "https://x/y", "sha256": "0" * 64}}],
            "dataset.train.0",
        ),
        ("dataset.train", [{"http": {"url": "https://x/y"}}], "dataset.train.0.http.sha256"),
        (
            "dataset.train",
            [{"http": {"url": "file:///etc/passwd", "sha256": "0" * 64}}],
            "dataset.train.0.http.url",
        ),
        ("dataset", {"train": [{"path": "a"}], "format": "chat", "template": "{x}"}, "dataset"),
        (
            "dataset",
            {"train": [{"path": "a"}], "validation": [{"path": "b"}], "validationSplit": "5%"},
            "dataset",
        ),
        ("training", {"epochs": 1, "maxSteps": 2}, "training"),
        ("training", {"batchSize": 4, "microBatchSize": 8}, "training"),
        ("training.learningRate", float("nan"), "training.learningRate"),
        ("training.loss", {"settings": {"a": "1"}}, "training.loss"),
        ("distributed.zero", {"stage": 1, "offload": "parameters"}, "distributed.zero"),
        ("evaluation", {"gates": [{"metric": "loss", "max": 1}]}, "evaluation"),
        ("evaluation", {"metrics": ["loss"], "gates": [{"metric": "loss"}]}, "evaluation.gates.0"),
        ("output.adapterName", "Support Bot", "output.adapterName"),
        ("method", "prompt-tuning", "method"),
    ],
)
def test_a_wrong_value_is_refused_at_its_place(path: str, value: object, where: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        RunConfig.model_validate(changed(path, value))

    assert where in {".".join(map(str, error["loc"])) for error in refusal.value.errors()}


def test_full_training_has_no_adapter_settings() -> None:
    with pytest.raises(ValidationError, match="lora has no effect with method full"):
        RunConfig.model_validate({**SMALLEST, "method": "full", "lora": {"rank": 8}})
    with pytest.raises(ValidationError, match=r"model\.adapter cannot be continued"):
        RunConfig.model_validate({**SMALLEST, "method": "full", "model": {"path": "/m", "adapter": "/a"}})


def test_the_contract_needs_nothing_but_pydantic() -> None:
    source = Path(fettle_trainer.config.__file__).parents[2]
    script = (
        "import sys; import fettle_trainer.config\n"
        "print(*sorted({'torch', 'transformers', 'kopf', 'kubernetes', 'numpy', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ""


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])

    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert all(command in out for command in ("check", "verify", "seal"))
