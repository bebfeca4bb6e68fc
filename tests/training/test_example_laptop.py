"""The example that a newcomer runs first: on a base made here, with its run file as it stands, it learns its task."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from fettle_trainer.__main__ import main
from fettle_trainer.adapter.verify import verify_adapter

EXAMPLE = Path("examples/train-on-a-laptop")
ROOT = Path(__file__).parents[2]


def test_the_laptop_example_gives_an_adapter_that_answers_better_than_its_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / EXAMPLE, tmp_path / EXAMPLE)
    monkeypatch.chdir(tmp_path)

    assert main(["make-base", "--output", "build/laptop/base"]) == 0
    capsys.readouterr()
    assert main(["train", str(EXAMPLE / "run.json")]) == 0

    said = capsys.readouterr().out
    outcome = json.loads(said)
    assert outcome["metrics"]["base-exact-match"] < 0.1
    assert outcome["metrics"]["exact-match"] > 0.8
    verified = verify_adapter(tmp_path / "build/laptop/store" / outcome["adapter"]["path"])
    assert verified.digest == outcome["adapter"]["digest"]
