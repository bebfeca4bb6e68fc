"""Datasets on the hub: the real client against a stand-in that speaks the hub's API on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dataset_checks import check, codes
from fettle_trainer.data.hub_files import chosen_files
from hub_stand_in import Hub, hub_serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRAIN = b'{"text": "one"}\n{"text": "two"}\n'
FILES = {
    "README.md": b"# A dataset\n",
    "data/train-00000-of-00002.jsonl": TRAIN,
    "data/train-00001-of-00002.jsonl": b'{"text": "three"}\n',
    "data/validation.jsonl": b'{"text": "four"}\n',
    "dataset_infos.json": b"{}",
    "run.py": b"raise SystemExit",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    with hub_serving({"datasets/org/set": FILES}) as (handler, address):
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield handler


def source(**changes: Any) -> list[dict[str, Any]]:
    return [{"huggingFace": {"repo": "org/set", **changes}}]


def test_the_files_of_a_split_are_fetched_and_read(hub: type[Hub]) -> None:
    report = check(train=source(), validation=source())

    assert (report.passed, report.rows, report.validation_rows) == (True, 3, 1)
    assert [file.path for file in report.files] == [
        f"org/set@01234567/data/{name}.jsonl"
        for name in ("train-00000-of-00002", "train-00001-of-00002", "validation")
    ]
    assert not any("run.py" in path for path, _ in hub.seen)


def test_the_token_is_sent_and_no_other_ever_is(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of-the-machine")
    assert check(train=source(), validationSplit="0%").passed
    assert {authorization for _, authorization in hub.seen} == {""}

    hub.token = "hf_of-the-tenant"
    token = tmp_path / "token"
    token.write_text("hf_of-the-tenant\n")
    assert check(train=source(tokenFile=str(token)), validationSplit="0%").passed


@pytest.mark.parametrize(
    ("changes", "code", "sentence"),
    [
        ({"repo": "org/other"}, "SourceUnreachable", "does not exist"),
        ({"revision": "v9"}, "SourceUnreachable", "has no revision v9"),
        ({"split": "test"}, "FileMissing", "0 data files for the split test"),
        ({"subset": "fr"}, "FileMissing", "of subset fr"),
        ({"tokenFile": "/no/such/token"}, "SourceUnreachable", "token file /no/such/token cannot be read"),
    ],
)
@pytest.mark.usefixtures("hub")
def test_what_cannot_be_fetched_gives_a_finding(changes: dict[str, Any], code: str, sentence: str) -> None:
    report = check(train=source(**changes))

    assert (codes(report), report.passed) == ([code], False)
    assert sentence in report.findings[0].message
    assert report.findings[0].file == changes.get("repo", "org/set")


def test_a_gated_dataset_asks_for_a_token(hub: type[Hub]) -> None:
    hub.token = "hf_secret"
    report = check(train=source())

    assert codes(report) == ["SourceUnreachable"]
    assert "is gated" in report.findings[0].message


def test_a_hub_that_is_not_there_gives_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert codes(check(train=source())) == ["SourceUnreachable"]


CARD = """---
configs:
- config_name: default
  data_files:
  - split: train
    path: "main/*.csv"
  - split: validation
    path: ["main/held/*.csv"]
- config_name: small
  data_files: small.jsonl
---
text
"""


@pytest.mark.parametrize(
    ("names", "card", "subset", "split", "chosen"),
    [
        ("train.jsonl test.jsonl README.md", "", None, "train", "train.jsonl"),
        ("a/train-0.csv a/train-1.csv b/train.csv", "", "a", "train", "a/train-0.csv a/train-1.csv"),
        ("dev.jsonl train.jsonl", "", None, "validation", "dev.jsonl"),
        ("rows.jsonl more.parquet dataset_infos.json", "", None, "train", "more.parquet rows.jsonl"),
        ("rows.jsonl test.jsonl", "", None, "train", "rows.jsonl"),
        ("trainer_log.txt constraint.csv", "", None, "train", "constraint.csv"),
        ("rows.jsonl", "", None, "validation", ""),
        ("en-train.json fr-train.json", "", "fr", "train", "fr-train.json"),
        ("main/a.csv main/held/b.csv small.jsonl", CARD, None, "train", "main/a.csv"),
        ("main/a.csv main/held/b.csv small.jsonl", CARD, None, "validation", "main/held/b.csv"),
        ("main/a.csv main/held/b.csv small.jsonl", CARD, "small", "train", "small.jsonl"),
        ("train.csv", "---\n: [\n---\n", None, "train", "train.csv"),
        ("train.csv", "---\nconfigs: 3\n---\n", None, "train", "train.csv"),
    ],
)
def test_the_files_of_a_split_are_told_by_the_card_or_their_names(
    names: str, card: str, subset: str | None, split: str, chosen: str
) -> None:
    assert chosen_files(names.split(), card, subset, split) == chosen.split()
