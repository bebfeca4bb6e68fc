"""Datasets on the hub: the real client against a stand-in that speaks the hub's API on loopback."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from dataset_checks import check, codes
from fettle_trainer.data.hub_files import chosen_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TRAIN = b'{"text": "one"}\n{"text": "two"}\n'
FILES = {
    "README.md": b"# A dataset\n",
    "data/train-00000-of-00002.jsonl": TRAIN,
    "data/train-00001-of-00002.jsonl": b'{"text": "three"}\n',
    "data/validation.jsonl": b'{"text": "four"}\n',
    "dataset_infos.json": b"{}",
    "run.py": b"raise SystemExit",
}


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's API that downloading a dataset needs."""

    seen: list[tuple[str, str]]
    token: str | None

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def answer(self, *, body: bool) -> None:
        authorization = self.headers.get("Authorization", "")
        type(self).seen.append((self.path, authorization))
        if self.token is not None and authorization != f"Bearer {self.token}":
            self.send(401, b"", {"X-Error-Code": "GatedRepo"}, body=body)
        elif self.path.startswith("/api/datasets/org/set/revision/main"):
            listing = {"id": "org/set", "sha": COMMIT, "siblings": [{"rfilename": name} for name in FILES]}
            self.send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"}, body=body)
        elif self.path.startswith("/api/datasets/org/set/"):
            self.send(404, b"", {"X-Error-Code": "RevisionNotFound"}, body=body)
        elif self.path.startswith(f"/datasets/org/set/resolve/{COMMIT}/"):
            data = FILES[self.path.partition(f"{COMMIT}/")[2]]
            etag = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT}
            self.send(200, data, etag, body=body)
        else:
            self.send(404, b"", {"X-Error-Code": "RepoNotFound"}, body=body)

    def send(self, status: int, data: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    handler = type("Handler", (Hub,), {"seen": [], "token": None})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        try:
            yield handler
        finally:
            server.shutdown()
            thread.join()


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
