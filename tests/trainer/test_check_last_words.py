"""What a check leaves for the operator: it fits into a termination message, and is still a report."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING

import pytest

from fettle_trainer.__main__ import main
from fettle_trainer.config import DatasetReport
from fettle_trainer.config.outcome import MAX_OUTCOME_BYTES, Outcome

if TYPE_CHECKING:
    from pathlib import Path


def run_file(folder: Path, data: Path) -> Path:
    path = folder / "run.json"
    document = {
        "model": {"path": "/models/base"},
        "dataset": {"train": [{"path": str(data)}]},
        "output": {"directory": "/store", "adapterName": "a"},
    }
    path.write_text(json.dumps(document))
    return path


def test_a_thousand_bad_lines_fit_with_exact_counts_and_the_first_places(tmp_path: Path) -> None:
    data, log = tmp_path / "rows.jsonl", tmp_path / "termination-log"
    data.write_text('{"text": "good"}\n' + '{"text": "quote missing}\n' * 1000)
    log.touch()
    identity = log.stat().st_ino
    report = tmp_path / "runs/1/check.json"

    code = main(
        ["check", str(run_file(tmp_path, data)), "--report", str(report), "--termination-log", str(log)]
    )

    assert code == 2
    assert log.stat().st_ino == identity, "a mounted file cannot be replaced"
    assert log.stat().st_size <= MAX_OUTCOME_BYTES
    said = DatasetReport.model_validate_json(log.read_bytes())
    assert (said.passed, said.bad_rows) == (False, 1000)
    assert (said.findings[0].file, said.findings[0].line) == (str(data), 2)
    whole = DatasetReport.model_validate_json(report.read_bytes())
    assert said.counts == whole.counts
    assert len(said.findings) < len(whole.findings)


def test_a_store_without_room_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, log = tmp_path / "rows.jsonl", tmp_path / "termination-log"
    data.write_text('{"text": "good"}\n' * 3)

    def full(path: Path, _: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("fettle_trainer.commands.check.write_atomically", full)
    report = tmp_path / "check.json"
    words = ["check", str(run_file(tmp_path, data)), "--report", str(report), "--termination-log", str(log)]

    assert main(words) == 1

    said = Outcome.model_validate_json(log.read_bytes())
    assert said.error is not None
    assert said.error.code == "StorageFull"
    assert str(report) in said.error.message


def test_wrong_settings_are_told_in_the_words_of_an_outcome(tmp_path: Path) -> None:
    log = tmp_path / "termination-log"
    (tmp_path / "run.json").write_text('{"colour": 1}')

    assert main(["check", str(tmp_path / "run.json"), "--termination-log", str(log)]) == 2

    said = Outcome.model_validate_json(log.read_bytes())
    assert said.error is not None
    assert "colour" in said.error.message
