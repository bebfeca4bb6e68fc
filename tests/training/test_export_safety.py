"""What a model folder and the environment must be before a run opens them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fettle_trainer.environment import seal_environment
from fettle_trainer.errors import WrongInputError
from fettle_trainer.safety import require_safe_model_folder


@pytest.fixture
def model(tiny: Callable[[str], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny("llama"), tmp_path / "model"))


def refusal(folder: Path) -> WrongInputError:
    with pytest.raises(WrongInputError) as caught:
        require_safe_model_folder(folder)
    return caught.value


def rewrite(path: Path, **changes: object) -> None:
    document = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(document | changes))


def test_a_model_of_safetensors_is_accepted_also_with_pickles_beside_that_nobody_opens(model: Path) -> None:
    (model / "training_args.bin").write_bytes(b"never opened")
    require_safe_model_folder(model)


def test_a_snapshot_of_the_hub_cache_may_link_into_its_own_repository(model: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--example--tiny"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    shutil.move(model, repository / "blobs")
    for blob in (repository / "blobs").iterdir():
        (snapshot / blob.name).symlink_to(f"../../blobs/{blob.name}")
    require_safe_model_folder(snapshot)
    (snapshot / "notes.txt").symlink_to(tmp_path.parent)
    assert refusal(snapshot).code == "ModelUnsafe"


@pytest.mark.parametrize("name", ["modeling_tiny.py", "below/kernel.so", "UPPER.PY"])
def test_programs_are_refused_wherever_they_lie(model: Path, name: str) -> None:
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).write_text("raise SystemExit")
    error = refusal(model)
    assert error.code == "ModelHoldsCode"
    assert name in error.message


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "generation_config.json"])
def test_a_configuration_that_names_code_is_refused(model: Path, name: str) -> None:
    rewrite(model / name, auto_map={"AutoModel": "modeling_tiny.Tiny"})
    error = refusal(model)
    assert error.code == "ModelHoldsCode"
    assert name in error.message


def test_a_model_of_pickles_is_refused_and_the_message_says_what_to_do(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    error = refusal(model)
    assert error.code == "ModelNotSafetensors"
    assert "pytorch_model.bin can hold code" in error.message
    assert "save_pretrained" in error.message


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside.json", "missing.json"])
def test_a_link_out_of_the_folder_is_refused(model: Path, target: str) -> None:
    (model.parent / "outside.json").write_text("{}")
    (model / "special_tokens_map.json").unlink(missing_ok=True)
    (model / "special_tokens_map.json").symlink_to(target)
    assert refusal(model).code == "ModelUnsafe"


def test_a_pipe_is_refused_before_it_can_hang_anybody(model: Path) -> None:
    os.mkfifo(model / "vocab.txt")
    assert refusal(model).code == "ModelUnsafe"


@pytest.mark.parametrize("shard", ["../../elsewhere.safetensors", "missing.safetensors"])
def test_an_index_may_only_name_shards_of_the_folder(model: Path, shard: str) -> None:
    rewrite(model / "model.safetensors.index.json", weight_map={"lm_head.weight": shard})
    error = refusal(model)
    assert error.code == "ModelInvalid"
    assert shard in error.message


@pytest.mark.parametrize("text", ["not json", "[]", '{"a": 1, "a": 2}'])
def test_a_configuration_that_is_no_object_is_refused_with_a_sentence(model: Path, text: str) -> None:
    (model / "config.json").write_text(text)
    assert refusal(model).code == "ModelInvalid"


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    assert str(tmp_path / "nowhere") in refusal(tmp_path / "nowhere").message


def test_secrets_leave_the_environment_and_settings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", dict(os.environ))
    secrets = {"HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "hf_token"}
    settings = {"TOKENIZERS_PARALLELISM": "false", "HF_TOKEN_PATH": "/a", "MASTER_ADDR": "b", "PATH": "/bin"}
    os.environ.update(dict.fromkeys(secrets, "s3cret") | settings)
    assert set(seal_environment()) == secrets
    assert not secrets & os.environ.keys()
    assert settings.items() <= os.environ.items()


def test_a_sealed_process_and_its_children_cannot_ask_a_hub() -> None:
    program = """
import huggingface_hub.constants, os, subprocess, sys
from fettle_trainer.environment import seal_environment
os.environ.pop("HF_HUB_OFFLINE", None)
huggingface_hub.constants.HF_HUB_OFFLINE = False
seal_environment()
print(huggingface_hub.constants.HF_HUB_OFFLINE)
print(subprocess.check_output([sys.executable, "-c", "import os; print(os.environ['HF_HUB_OFFLINE'], 'HF_TOKEN' in os.environ)"]).decode())
"""
    environment = {**os.environ, "HF_TOKEN": "s3cret", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True, timeout=60
    )
    assert done.stdout.split() == [b"True", b"1", b"False"]
