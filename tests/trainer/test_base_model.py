"""The base model's folder, and a revision of the hub fetched once, safely and with no token but its own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from fettle_trainer.config.run import ModelConfig
from fettle_trainer.errors import IncompleteError, WrongInputError
from fettle_trainer.train.base_model import base_folder
from hub_stand_in import COMMIT, Hub, hub_serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILES = {
    "README.md": b"# A model",
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": (2).to_bytes(8, "little") + b"{}",
    "pytorch_model.bin": b"a pickle",
    "modeling_own.py": b"raise SystemExit",
    "tokenizer.json": b"{}",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    with hub_serving({"models/org/base": FILES}) as (handler, address):
        monkeypatch.setenv("HF_ENDPOINT", address)
        yield handler


def model(**changes: Any) -> ModelConfig:
    return ModelConfig.model_validate({"huggingFace": {"repo": "org/base", **changes}})


def fetched(wanted: ModelConfig, store: Path) -> Path:
    return base_folder(wanted, store / "models", store / "work" / "base-model.json")


def test_a_revision_is_fetched_once_and_without_pickles_or_code(hub: type[Hub], tmp_path: Path) -> None:
    folder = fetched(model(), tmp_path)

    assert folder == tmp_path / "models" / "org--base" / COMMIT
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert not any("own.py" in path or "pytorch_model" in path for path, _ in hub.seen)
    hub.seen.clear()
    assert base_folder(model(), tmp_path / "models", tmp_path / "another-run.json") == folder
    assert not any("/resolve/" in path for path, _ in hub.seen)


def test_a_run_keeps_the_commit_it_began_with_and_asks_the_hub_no_more(
    hub: type[Hub], tmp_path: Path
) -> None:
    folder = fetched(model(), tmp_path)
    hub.seen.clear()
    assert fetched(model(), tmp_path) == folder
    assert hub.seen == []
    with pytest.raises(WrongInputError):
        fetched(model(revision="v2"), tmp_path)


def test_the_token_of_the_run_is_sent_and_no_other_ever_is(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_of-the-machine")
    fetched(model(), tmp_path / "open")
    assert {authorization for _, authorization in hub.seen} == {""}

    hub.token = "hf_of-the-tenant"
    (tmp_path / "token").write_text("hf_of-the-tenant\n")
    assert fetched(model(tokenFile=str(tmp_path / "token")), tmp_path / "gated").is_dir()


@pytest.mark.parametrize(
    ("wanted", "token", "code"),
    [
        ({"repo": "org/missing"}, None, "ModelMissing"),
        ({"revision": "v2"}, None, "ModelMissing"),
        ({}, "hf_needed", "ModelMissing"),
        ({"tokenFile": "/nowhere"}, None, "TokenUnreadable"),
    ],
    ids=["no such repository", "no such revision", "gated", "no token file"],
)
def test_what_cannot_be_fetched_is_the_users_to_mend(
    wanted: dict[str, str], token: str | None, code: str, hub: type[Hub], tmp_path: Path
) -> None:
    hub.token = token
    with pytest.raises(WrongInputError) as refused:
        fetched(model(**wanted), tmp_path)
    assert refused.value.code == code
    assert not list(tmp_path.rglob("config.json"))


def test_a_hub_that_is_away_may_be_back_for_the_next_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(IncompleteError, match="org/base"):
        fetched(model(), tmp_path)


def test_a_fetched_model_that_needs_code_is_refused(hub: type[Hub], tmp_path: Path) -> None:
    hub.repositories = {
        "models/org/base": FILES
        | {"config.json": json.dumps({"auto_map": {"AutoModel": "own.Model"}}).encode()}
    }
    with pytest.raises(WrongInputError) as refused:
        fetched(model(), tmp_path)
    assert refused.value.code == "ModelHoldsCode"


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WrongInputError) as refused:
        fetched(ModelConfig(path=str(tmp_path)), tmp_path)
    assert refused.value.code == "ModelMissing"
