"""Release folders as vLLM could load them, and those that it could not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import adapter_files as files
from fettle_server.engine.refusal import RefusedAdapterError
from fettle_server.engine.types import AdapterSpec
from fettle_server.vllm.loadable import loadable
from fettle_server.vllm.settings import LayerSettings
from fettle_trainer.adapter.verify import verify_adapter
from fettle_trainer.config.adapter import FileRecord
from fettle_trainer.config.manifest import BaseModelRecord, Manifest

BASE = "sha256:" + 64 * "b"
MAGNITUDES: files.Tensors = {
    f"{module}.lora_magnitude_vector": ("F32", [files.WIDTH], files.floats(files.WIDTH))
    for module in files.MODULES
}


def settings(root: Path, **changes: Any) -> LayerSettings:
    return LayerSettings("bot", "base-1", root, root / "token", max_adapters=4, **changes)


def spec_of(folder: Path) -> AdapterSpec:
    return AdapterSpec("rev-a", verify_adapter(folder).digest, folder.name)


def refused(folder: Path, **changes: Any) -> RefusedAdapterError:
    with pytest.raises(RefusedAdapterError) as error:
        loadable(spec_of(folder), settings(folder.parent, **changes))
    return error.value


def sealed(folder: Path, method: str, base: str | None) -> Path:
    """Write an adapter with a manifest."""
    facts = verify_adapter(files.write_adapter(folder))
    files.write_manifest(
        folder,
        Manifest(
            digest=facts.digest,
            files=tuple(FileRecord.model_validate(record.model_dump()) for record in facts.files),
            base_model=BaseModelRecord(name="example/tiny-llama", digest=base),
            method=method,  # type: ignore[arg-type]
            rank=facts.rank,
            alpha=facts.alpha,
            target_modules=facts.target_modules,
            template_hash=facts.template_hash,
        ),
    )
    return folder


def test_an_adapter_brings_its_name_its_template_and_its_end(tmp_path: Path) -> None:
    folder = files.write_adapter(tmp_path / "a")
    (folder / "tokenizer_config.json").write_text('{"eos_token": {"content": "<|end|>"}}')
    added = [{"id": 5, "content": "<|start|>"}, {"id": 7, "content": "<|end|>"}]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": added}))
    spec = spec_of(folder)
    target = loadable(spec, settings(tmp_path))
    assert target.lora_name == f"rev-a.{spec.digest[7:23]}"
    assert target.folder == folder
    assert target.template == (folder / files.TEMPLATE).read_text()
    assert target.stop_token_ids == (7,)


def test_a_dora_is_refused_with_the_way_out(tmp_path: Path) -> None:
    weights = files.safetensors({**files.tensors(), **MAGNITUDES})
    folder = files.write_adapter(tmp_path / "a", weights=weights, config_changes={"use_dora": True})
    error = refused(folder)
    assert error.reason == "SettingUnsupported"
    assert "magnitude" in error.message
    assert "Serve the merged model, or use engine transformers." in error.message


def test_modules_saved_whole_are_refused_by_name(tmp_path: Path) -> None:
    head = {"base_model.model.score.weight": ("F32", [2, files.WIDTH], files.floats(2 * files.WIDTH))}
    folder = files.write_adapter(
        tmp_path / "a",
        weights=files.safetensors({**files.tensors(), **head}),
        config_changes={"modules_to_save": ["score"]},
    )
    assert "modules saved whole (score)" in refused(folder).message


def test_a_rank_above_the_servers_says_which_would_do(tmp_path: Path) -> None:
    folder = files.write_adapter(tmp_path / "a")
    error = refused(folder, max_lora_rank=1)
    assert error.reason == "RankTooLarge"
    assert "Set maxLoraRank to 8." in error.message


def test_an_adapter_of_a_quantised_base_is_refused(tmp_path: Path) -> None:
    assert refused(sealed(tmp_path / "a", "qlora", BASE)).reason == "QuantisedBase"


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    folder = sealed(tmp_path / "a", "lora", BASE)
    assert loadable(spec_of(folder), settings(tmp_path, base_digest=BASE))
    assert refused(folder, base_digest="sha256:" + 64 * "c").reason == "BaseMismatch"


def test_files_that_were_changed_are_refused(tmp_path: Path) -> None:
    folder = sealed(tmp_path / "a", "lora", None)
    spec = spec_of(folder)
    (folder / files.TEMPLATE).write_text("{{ 'another template' }}")
    with pytest.raises(RefusedAdapterError) as error:
        loadable(spec, settings(tmp_path))
    assert error.value.reason == "DigestMismatch"


def test_another_adapter_than_the_digest_names_is_refused(tmp_path: Path) -> None:
    folder = files.write_adapter(tmp_path / "a")
    with pytest.raises(RefusedAdapterError, match="Name the folder of that digest"):
        loadable(AdapterSpec("rev-a", BASE, folder.name), settings(tmp_path))


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(RefusedAdapterError) as error:
        loadable(AdapterSpec("rev-a", BASE, "nowhere"), settings(tmp_path))
    assert error.value.reason == "DirectoryMissing"
