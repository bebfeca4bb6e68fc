"""The command that becomes vLLM: from a file to its words, or to a sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fettle_server.vllm.__main__ import main

SETTINGS = {
    "model": "/models/base",
    "modelName": "bot",
    "baseRevision": "base-1",
    "adaptersRoot": "/adapters",
    "adminTokenFile": "/run/token",
    "maxLoraRank": 24,
    "maxContext": 4096,
}


def written(folder: Path, **changes: Any) -> str:
    file = folder / "vllm.json"
    file.write_text(json.dumps({**SETTINGS, **changes}))
    return str(file)


def test_the_command_is_shown_with_its_variables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([written(tmp_path), "--print"]) == 0
    variables, command = capsys.readouterr().out.rsplit("}\n", 1)
    assert json.loads(variables + "}")["FETTLE_MAX_LORA_RANK"] == "32"
    assert command.startswith("vllm serve /models/base --served-model-name bot ")
    assert "--max-lora-rank 32" in command


def test_the_process_becomes_vllm(tmp_path: Path) -> None:
    program = tmp_path / "vllm"
    program.write_text('#!/bin/sh\necho "$1 $2 $FETTLE_MODEL_NAME"\n')
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": ":".join(sys.path)}
    launcher = [sys.executable, "-m", "fettle_server.vllm", written(tmp_path)]
    said = subprocess.run(launcher, capture_output=True, text=True, check=True, env=environment)
    assert said.stdout == "serve /models/base bot\n"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"maxLoraRank": 600}, "maxLoraRank is 600; vLLM loads adapters of rank 512 at most."),
        ({"maxLoraRank": "many"}, "maxLoraRank: Input should be a valid integer"),
        ({"maxLoraRnak": 8}, "maxLoraRnak: "),
        ({"precision": "int8"}, "precision: Input should be 'auto', 'fp32', 'bf16' or 'fp16'"),
    ],
)
def test_a_file_that_does_not_fit_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], sentence: str
) -> None:
    assert main([written(tmp_path, **changes)]) == 2
    assert sentence in capsys.readouterr().err


def test_without_a_file_or_without_vllm_a_sentence_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main([str(tmp_path / "nowhere.json")]) == 2
    assert "cannot be read: No such file or directory." in capsys.readouterr().err
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main([written(tmp_path)]) == 2
    assert "vllm is not installed here" in capsys.readouterr().err
