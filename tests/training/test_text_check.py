"""The check with a tokenizer: the same numbers as training will have, and nothing of the model stack but that."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fettle_trainer.__main__ import main
from fettle_trainer.config import DatasetReport, RunConfig
from fettle_trainer.text.prepared import prepare

Tiny = Callable[[str], Path]


def run_file(folder: Path, model: Path, training: dict[str, Any] | None = None, **dataset: Any) -> Path:
    path = folder / "run.json"
    document = {
        "model": {"path": str(model)},
        "dataset": {"train": [{"path": str(folder / "a.jsonl")}], **dataset},
        "training": training or {},
        "output": {"directory": str(folder), "adapterName": "a"},
    }
    path.write_text(json.dumps(document))
    return path


def chats(folder: Path, *answers: str) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": answer}]}
        for n, answer in enumerate(answers)
    ]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def checked(run: Path, folder: Path) -> tuple[int, DatasetReport]:
    code = main(["check", str(run), "--report", str(folder / "report.json")])
    return code, DatasetReport.model_validate_json((folder / "report.json").read_bytes())


def test_the_check_counts_the_tokens_that_training_will_have(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chats(tmp_path, *("word " * (n % 30 + 1) for n in range(120)), "word " * 150)
    run = run_file(tmp_path, tiny("llama"), {"epochs": 2, "batchSize": 8}, validationSplit="10%")

    code, report = checked(run, tmp_path)

    ready = prepare(RunConfig.model_validate_json(run.read_bytes()), tiny("llama"), tmp_path / "work")
    assert code == 0
    assert report.tokens == ready.facts
    assert report.predicted_steps == -(-2 * len(ready.train) // 8)
    assert sum(part.rows for part in ready.facts.histogram) == 121
    assert ready.facts.dropped == 1
    said = capsys.readouterr().err
    assert f"tokens: {ready.facts.tokens} tokens to train on" in said
    assert "a.jsonl:121: warning: Overlong" in said
    assert not list(tmp_path.glob("fettle-check-*"))


def test_a_row_that_the_models_template_refuses_is_a_bad_row(tiny: Tiny, tmp_path: Path) -> None:
    chats(tmp_path, "one", "two")
    twice = [
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write(json.dumps({"messages": twice}) + "\n")

    code, report = checked(run_file(tmp_path, tiny("gemma2")), tmp_path)

    (finding,) = report.findings
    assert (code, report.bad_rows, report.rows) == (2, 1, 2)
    assert (finding.code, finding.line) == ("TemplateRefused", 3)
    assert "must alternate" in finding.message
    assert checked(run_file(tmp_path, tiny("qwen2")), tmp_path)[0] == 0


def test_a_model_without_a_chat_template_is_said_in_a_sentence(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chats(tmp_path, "one")
    model = tmp_path / "model"
    model.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (model / name).write_bytes((tiny("qwen2") / name).read_bytes())

    assert main(["check", str(run_file(tmp_path, model))]) == 2
    assert "no chat template" in capsys.readouterr().err


def test_the_check_needs_no_torch_and_little_memory(tiny: Tiny, tmp_path: Path) -> None:
    chats(tmp_path, *(f"word {n} " * 40 for n in range(1000)), "word " * 600_000)
    run = run_file(tmp_path, tiny("qwen2"), {"overlong": "truncate"})
    program = (
        "import re, sys; from fettle_trainer.__main__ import main; code = main(sys.argv[1:]);"
        "print(code, sys.modules['torch'], re.search('VmHWM: *\\t*(.*) kB', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "check", str(run), "--report", str(tmp_path / "report.json")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    )

    code, torch, kibibytes = done.stdout.split()
    assert (code, torch) == ("0", "None")
    assert int(kibibytes) < 256 * 1024
