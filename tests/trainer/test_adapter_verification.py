"""What a sound adapter is reported as, what damage does to a sealed one, and what the commands say."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import adapter_files as af
from fettle_trainer.__main__ import main
from fettle_trainer.adapter import inspect, report
from fettle_trainer.adapter.errors import AdapterRefusedError, FileChangedError
from fettle_trainer.adapter.seal import Provenance, seal_adapter
from fettle_trainer.adapter.verify import verify_adapter
from fettle_trainer.config.verification import MAX_REPORT_BYTES, VerificationReport

MODULE = af.MODULES[0]


def test_the_facts_of_a_plain_adapter_come_from_its_files(tmp_path: Path) -> None:
    facts = verify_adapter(af.write_adapter(tmp_path / "adapter"))

    assert (facts.method, facts.rank, facts.alpha) == ("lora", af.RANK, 8)
    assert facts.target_modules == ("q_proj", "v_proj")
    assert (facts.base_model, facts.has_manifest, facts.untrained) == ("example/tiny-llama", False, False)
    assert (facts.file_count, facts.tensor_count) == (4, 8)
    assert facts.size_bytes == sum(record.size_bytes for record in facts.files)


def test_the_digest_is_the_one_that_sha256sum_would_give(tmp_path: Path) -> None:
    directory = af.write_adapter(tmp_path / "adapter")
    (directory / "sub").mkdir()
    (directory / "sub/notes.txt").write_text("x")
    manifest = seal_adapter(directory, Provenance())

    paths = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
    paths.remove("manifest.json")
    listing = subprocess.run(["sha256sum", *paths], cwd=directory, capture_output=True, check=True).stdout

    assert manifest.digest == "sha256:" + hashlib.sha256(listing).hexdigest()
    assert verify_adapter(directory).digest == manifest.digest


def test_what_only_the_manifest_knows_is_reported(tmp_path: Path) -> None:
    directory = af.write_adapter(tmp_path / "adapter", config_changes={"base_model_name_or_path": None})
    digest = "sha256:" + "a" * 64
    seal_adapter(directory, Provenance("org/base", digest, digest, {"evalLoss": 1.25}))

    facts = verify_adapter(directory)

    assert (facts.base_model, facts.base_model_digest, facts.dataset_digest) == ("org/base", digest, digest)
    assert facts.metrics == {"evalLoss": "1.25"}
    assert facts.has_manifest


def dora() -> af.Tensors:
    return af.tensors() | {
        f"{module}.lora_magnitude_vector": ("F32", [af.WIDTH], af.floats(af.WIDTH)) for module in af.MODULES
    }


def patterned() -> af.Tensors:
    """The v_proj modules have twice the rank."""
    return {name: tensor for name, tensor in af.tensors().items() if "q_proj" in name} | {
        name: tensor for name, tensor in af.tensors(rank=8).items() if "v_proj" in name
    }


SOUND: dict[str, tuple[af.Tensors, dict[str, Any]]] = {
    "float64": (af.tensors("F64"), {}),
    "float16": (af.tensors("F16"), {}),
    "bfloat16": (af.tensors("BF16"), {}),
    "largest finite numbers": (
        af.tensors() | {f"{MODULE}.lora_A.weight": ("F32", [4, 16], af.pack([3.4e38, -3.4e38] * 32, "F32"))},
        {},
    ),
    "largest finite bfloat16": (
        af.tensors("BF16") | {f"{MODULE}.lora_A.weight": ("BF16", [4, 16], bytes([0x7F, 0x7F]) * 64)},
        {},
    ),
    "DoRA": (dora(), {"use_dora": True}),
    "ranks by pattern": (patterned(), {"rank_pattern": {"v_proj": 8}}),
    "all linear layers by name": (af.tensors(), {"target_modules": "all-linear"}),
    "an expression that could run for ever": (af.tensors(), {"target_modules": r"(.*)*(a+)+$"}),
    "an embedding": (
        af.tensors()
        | {
            "base_model.model.model.wte.lora_embedding_A": ("F32", [4, 50], af.floats(200)),
            "base_model.model.model.wte.lora_embedding_B": ("F32", [16, 4], af.floats(64)),
        },
        {"target_modules": ["q_proj", "v_proj", "wte"]},
    ),
    "a whole head": (
        af.tensors() | {"base_model.model.score.weight": ("F32", [2, 16], af.floats(32))},
        {"modules_to_save": ["score"]},
    ),
    "experts' parameters": (
        {
            "base_model.model.model.layers.0.mlp.experts.lora_A.weight": ("F32", [12, 16], af.floats(192)),
            "base_model.model.model.layers.0.mlp.experts.lora_B.weight": ("F32", [16, 12], af.floats(192)),
        },
        {"target_modules": None, "target_parameters": ["mlp.experts.gate_up_proj"]},
    ),
    "classes from transformers": (
        af.tensors(),
        {
            "auto_mapping": {
                "base_model_class": "X",
                "parent_library": "transformers.models.llama.modeling_llama",
            }
        },
    ),
}


@pytest.mark.parametrize("name", SOUND)
def test_every_layout_that_peft_writes_is_accepted(name: str, tmp_path: Path) -> None:
    tensors, changes = SOUND[name]
    directory = af.write_adapter(
        tmp_path / "adapter", weights=af.safetensors(tensors), config_changes=changes
    )

    facts = verify_adapter(directory)

    assert facts.method == ("dora" if changes.get("use_dora") else "lora")
    assert facts.rank == max([af.RANK, *changes.get("rank_pattern", {}).values()])


def test_an_adapter_that_changes_nothing_is_accepted_and_said_to_be_untrained(tmp_path: Path) -> None:
    tensors = {
        name: (dtype, shape, bytes(len(data)) if "lora_B" in name else data)
        for name, (dtype, shape, data) in af.tensors().items()
    }
    assert verify_adapter(af.write_adapter(tmp_path / "adapter", weights=af.safetensors(tensors))).untrained


def test_the_folder_of_the_file_system_is_no_part_of_the_adapter(tmp_path: Path) -> None:
    directory = af.write_adapter(tmp_path / "adapter")
    before = verify_adapter(directory).digest
    (directory / "lost+found").mkdir(mode=0o700)
    (directory / "lost+found/x.bin").write_text("")

    assert verify_adapter(directory).digest == before


DAMAGE = st.tuples(
    st.sampled_from(["flip", "cut", "grow", "remove", "rename", "swap"]),
    st.integers(0, 4),
    st.integers(0, 2**20),
    st.integers(0, 7),
)


@settings(max_examples=400, deadline=None)
@given(DAMAGE)
def test_no_damage_to_a_sealed_adapter_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, damage: tuple[str, int, int, int]
) -> None:
    directory = af.write_adapter(tmp_path_factory.mktemp("damage") / "adapter")
    seal_adapter(directory, Provenance(metrics={"evalLoss": 0.5}))
    files = sorted(directory.iterdir())
    kind, number, position, bit = damage
    if kind in {"remove", "rename"}:
        # Without its manifest an adapter is not damaged: it is a plain one, and reported as such.
        files.remove(directory / af.MANIFEST)
    hurt(files, kind, number % len(files), position, bit)

    with pytest.raises(AdapterRefusedError):
        verify_adapter(directory)


def hurt(files: list[Path], kind: str, number: int, position: int, bit: int) -> None:
    path, other = files[number], files[number - 1]
    data = bytearray(path.read_bytes())
    if kind == "flip":
        data[position % len(data)] ^= 1 << bit
        path.write_bytes(data)
    elif kind == "cut":
        path.write_bytes(data[: position % len(data)])
    elif kind == "grow":
        path.write_bytes(data + b"\n")
    elif kind == "remove":
        path.unlink()
    elif kind == "rename":
        path.rename(path.with_name(f"{path.name}.orig"))
    else:
        path.write_bytes(other.read_bytes())
        other.write_bytes(data)


def test_a_file_that_changes_while_it_is_read_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = af.write_adapter(tmp_path / "adapter")
    read_weights = inspect.read_weights

    def read_while_somebody_writes(*arguments: Any) -> Any:
        result = read_weights(*arguments)
        (directory / af.WEIGHTS).write_bytes(af.safetensors(af.tensors("F16")))
        return result

    monkeypatch.setattr(inspect, "read_weights", read_while_somebody_writes)
    with pytest.raises(FileChangedError):
        verify_adapter(directory)

    assert main(["verify", "--directory", str(directory)]) == 1
    assert json.loads(capsys.readouterr().out)["error"] == {
        "code": "FileChanged",
        "file": af.WEIGHTS,
        "message": f"{af.WEIGHTS} changed while it was read; wait until the copy is complete.",
    }


def test_the_commands_work_where_only_pydantic_is_installed(tmp_path: Path) -> None:
    directory = af.write_adapter(tmp_path / "adapter")
    target = tmp_path / "termination-log"
    target.write_text("x" * 5000)
    source = Path(inspect.__file__).parents[2]
    script = (
        "import sys, runpy; sys.argv = ['fettle_trainer', 'verify', *sys.argv[1:]]\n"
        "try: runpy.run_module('fettle_trainer', run_name='__main__')\n"
        "except SystemExit as stop: code = stop.code\n"
        "allowed = set(sys.stdlib_module_names) | {'fettle_trainer', 'pydantic', 'pydantic_core', 'annotated_types',"
        " 'typing_extensions', 'typing_inspection'}\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "foreign = {name for name in loaded - allowed if not name.startswith('_sysconfigdata')}\n"
        "sys.exit(f'imports {foreign}' if foreign else code)"
    )
    command = [sys.executable, "-c", f"import sys; before = set(sys.modules); exec({script!r})"]
    done = subprocess.run(
        [*command, "--directory", str(directory), "--report", str(target)],
        env={"PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("verified: lora of rank 4 for example/tiny-llama, sha256:")
    assert VerificationReport.model_validate_json(target.read_bytes()).outcome == "verified"


def test_exit_codes_tell_a_wrong_adapter_from_an_unfinished_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = af.write_adapter(tmp_path / "adapter")
    assert main(["verify", "--directory", str(directory)]) == 0
    assert main(["verify", "--directory", str(directory), "--report", str(tmp_path / "no/such/folder")]) == 1
    assert main(["seal", str(directory), "--metric", "evalLoss=1.5"]) == 0
    assert main(["seal", str(directory)]) == 2
    assert main(["seal", str(directory), "--replace"]) == 0
    (directory / "x.pkl").touch()
    assert main(["verify", "--directory", str(directory)]) == 2
    assert main(["seal", str(directory), "--replace"]) == 2
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--metric", "loss=nan"], ["--metric", "loss"], ["--base-model-digest", "sha256:12"]]
)
def test_seal_refuses_provenance_that_means_nothing(arguments: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["seal", str(tmp_path), *arguments])
    assert stop.value.code == 2


def test_a_killed_seal_leaves_nothing_that_the_next_one_would_seal(tmp_path: Path) -> None:
    directory = af.write_adapter(tmp_path / "adapter")
    (directory / ".manifest.json.tmp").write_text("half")

    manifest = seal_adapter(directory, Provenance())

    assert [record.path for record in manifest.files] == sorted(
        [af.CONFIG, af.WEIGHTS, af.TEMPLATE, "tokenizer_config.json"]
    )
    assert verify_adapter(directory).has_manifest


def test_a_report_fits_a_termination_message_whatever_the_adapter_holds(tmp_path: Path) -> None:
    directory = af.write_adapter(
        tmp_path / "adapter", config_changes={"base_model_name_or_path": "\u0001" * 512}
    )
    for number in range(60):
        (directory / f"{number}-{'é' * 80}.txt").write_text(str(number))
    seal_adapter(directory, Provenance(metrics={f"metric{n}{'x' * 50}": n / 7 for n in range(64)}))

    data = report.render(report.verified(verify_adapter(directory)))

    assert len(data) <= MAX_REPORT_BYTES
    adapter = VerificationReport.model_validate_json(data).adapter
    assert adapter is not None
    assert (adapter.files, adapter.file_count) == ((), 64)


def test_a_long_sentence_is_cut_and_the_json_is_not() -> None:
    data = report.render(report.failed(RuntimeError("\u0007" * 100_000)))

    assert len(data) <= MAX_REPORT_BYTES
    assert VerificationReport.model_validate_json(data).outcome == "failed"
