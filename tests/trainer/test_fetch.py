"""`fetch`: what comes from the hub is brought once, by the one step that has the token; later steps ask nobody."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fettle_trainer.__main__ import main
from fettle_trainer.config import DatasetReport
from fettle_trainer.config.outcome import Outcome
from hub_stand_in import COMMIT, Hub, hub_serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODEL = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": (2).to_bytes(8, "little") + b"{}",
}
DATA = {
    "data/train.jsonl": b'{"text": "one"}\n{"text": "two"}\n',
    "data/validation.jsonl": b'{"text": "three"}\n',
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    with hub_serving({"models/org/base": MODEL, "datasets/org/set": DATA}) as (handler, address):
        monkeypatch.setenv("HF_ENDPOINT", address)
        handler.token = "hf_secret"
        yield handler


class Run:
    """A run's file whose model and data come from the hub, with a token."""

    def __init__(self, folder: Path, work: str = "1") -> None:
        self.folder = folder
        self.token = folder / "token"
        self.token.write_text("hf_secret\n")
        source = {"huggingFace": {"repo": "org/set", "tokenFile": str(self.token)}}
        self.document: dict[str, Any] = {
            "model": {"huggingFace": {"repo": "org/base", "tokenFile": str(self.token)}},
            "dataset": {"train": [source], "validation": [source]},
            "output": {
                "directory": str(folder / "store"),
                "adapterName": "a",
                "workDirectory": str(folder / "store" / "runs" / work),
            },
        }

    def main(self, command: str, *more: str) -> tuple[int, bytes]:
        file, log = self.folder / "run.json", self.folder / "termination-log"
        file.write_text(json.dumps(self.document))
        log.write_bytes(b"")
        code = main([command, str(file), *more, "--termination-log", str(log)])
        return code, log.read_bytes()


def test_the_check_needs_neither_token_nor_hub_after_it(hub: type[Hub], tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.main("fetch") == (0, b"")
    run.token.unlink()
    hub.seen.clear()

    code, said = run.main("check")

    assert code == 0
    report = DatasetReport.model_validate_json(said)
    assert (report.passed, report.rows, report.validation_rows) == (True, 2, 1)
    assert hub.seen == []
    kept = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert not [path for path in kept if b"hf_secret" in path.read_bytes()]


def test_a_revision_is_fetched_once_for_all_runs_of_a_store(hub: type[Hub], tmp_path: Path) -> None:
    assert Run(tmp_path).main("fetch")[0] == 0
    hub.seen.clear()

    assert Run(tmp_path, work="2").main("fetch")[0] == 0

    assert not [path for path, _ in hub.seen if "/org/base/resolve/" in path]
    assert [
        path.name for path in (tmp_path / "store/.fettle/models/org--base").iterdir() if path.is_dir()
    ] == [COMMIT]


def test_a_run_keeps_the_data_that_it_began_with(hub: type[Hub], tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.main("fetch")[0] == 0
    hub.seen.clear()

    assert run.main("fetch")[0] == 0

    assert hub.seen == []


@pytest.mark.parametrize(
    ("section", "code", "exit_code"),
    [("model", "ModelMissing", 2), ("dataset", "SourceUnreachable", 1)],
)
def test_what_cannot_be_fetched_is_told_in_the_words_of_an_outcome(
    hub: type[Hub], tmp_path: Path, section: str, code: str, exit_code: int
) -> None:
    run = Run(tmp_path)
    nowhere = {"huggingFace": {"repo": "org/nowhere", "tokenFile": str(run.token)}}
    run.document[section] = nowhere if section == "model" else {"train": [nowhere]}

    ended, said = run.main("fetch")

    assert ended == exit_code
    error = Outcome.model_validate_json(said).error
    assert error is not None
    assert error.code == code
    assert "org/nowhere" in error.message
    assert "hf_secret" not in error.message
    assert hub.seen
