"""`verify` on whole models: legal with a manifest, and no way around what an adapter must be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from adapter_files import write_adapter, write_manifest
from fettle_trainer.adapter.directory import open_adapter_directory
from fettle_trainer.adapter.errors import AdapterRefusedError
from fettle_trainer.adapter.inspect_model import inspect_model
from fettle_trainer.adapter.verify import verify_adapter
from fettle_trainer.config.manifest import BaseModelRecord, Manifest

BASE = BaseModelRecord(name="example/tiny")


@pytest.fixture
def model(tiny: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny("llama"), tmp_path / "model"))


@pytest.fixture
def sharded(model: Path) -> Path:
    AutoModelForCausalLM.from_pretrained(model).save_pretrained(
        model.parent / "sharded", max_shard_size="20KB"
    )
    return model.parent / "sharded"


def seal(folder: Path) -> Manifest:
    with open_adapter_directory(folder) as directory:
        contents = inspect_model(directory)
    manifest = Manifest(
        digest=contents.digest, files=contents.records, base_model=BASE, artefact="model", method="full"
    )
    write_manifest(folder, manifest)
    return manifest


def refusal(folder: Path) -> str:
    with pytest.raises(AdapterRefusedError) as caught:
        verify_adapter(folder)
    return str(caught.value.code)


@pytest.mark.parametrize("kind", ["model", "sharded"])
def test_a_whole_model_with_its_manifest_is_verified(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    manifest = seal(folder)
    found = verify_adapter(folder)
    assert (found.artefact, found.method, found.rank, found.alpha) == ("model", "full", None, None)
    assert found.digest == manifest.digest
    assert found.tensor_count > 10


def test_a_whole_model_without_a_manifest_is_no_adapter(model: Path) -> None:
    assert refusal(model) == "ConfigMissing"


def test_a_manifest_cannot_call_an_adapter_a_model(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter")
    manifest = {"artefact": "model", "method": "full", "rank": None, "alpha": None, "target_modules": ()}
    write_manifest(adapter, _manifest_of(adapter).model_copy(update=manifest))
    assert refusal(adapter) == "ManifestMismatch"


@pytest.mark.parametrize(
    "changes",
    [
        {"rank": None},
        {"artefact": "model"},
        {"method": "full"},
        {"artefact": "model", "rank": None, "alpha": None},  # lora, but merged into nothing
    ],
)
def test_a_manifest_that_mixes_the_two_is_none(tmp_path: Path, changes: dict[str, Any]) -> None:
    good = _manifest_of(write_adapter(tmp_path / "adapter")).model_dump()
    with pytest.raises(ValidationError):
        Manifest.model_validate(good | changes)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def _drop_from_index(path: Path) -> None:
    document = json.loads(path.read_text())
    document["weight_map"].popitem()
    path.write_text(json.dumps(document))


def test_a_flipped_bit_is_found(sharded: Path) -> None:
    seal(sharded)
    _flip(next(sharded.glob("model-*.safetensors")))
    assert refusal(sharded) == "DigestMismatch"


def test_an_index_that_disagrees_with_the_shards_is_refused_when_it_is_sealed(sharded: Path) -> None:
    _drop_from_index(sharded / "model.safetensors.index.json")
    with pytest.raises(AdapterRefusedError, match="stands in model-"):
        seal(sharded)


def test_a_missing_shard_is_refused(sharded: Path) -> None:
    seal(sharded)
    next(sharded.glob("model-*.safetensors")).unlink()
    assert refusal(sharded) == "FileMissing"


@pytest.mark.parametrize(("value", "code"), [(float("nan"), "WeightsNotFinite"), (None, "WeightsEmpty")])
def test_weights_of_a_failed_training_are_refused(model: Path, value: float | None, code: str) -> None:
    loaded = AutoModelForCausalLM.from_pretrained(model)
    weight = loaded.model.norm.weight
    weight.data = torch.empty(0) if value is None else weight.data.fill_(value)
    loaded.save_pretrained(model)
    with pytest.raises(AdapterRefusedError) as caught:
        seal(model)
    assert caught.value.code == code


def test_code_in_a_whole_model_is_refused(model: Path) -> None:
    (model / "modeling.py").write_text("")
    with pytest.raises(AdapterRefusedError, match="runs no code"):
        seal(model)


def _manifest_of(adapter: Path) -> Manifest:
    found = verify_adapter(adapter)
    return Manifest(
        digest=found.digest,
        files=found.files,
        base_model=BASE,
        method=found.method,
        rank=found.rank,
        alpha=found.alpha,
        target_modules=found.target_modules,
    )
