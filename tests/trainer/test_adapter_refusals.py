"""A corpus of wrong adapters: each is refused with its own code and file, and none with anything else."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import adapter_files as af
from fettle_trainer.adapter.errors import AdapterRefusedError
from fettle_trainer.adapter.seal import Provenance, seal_adapter
from fettle_trainer.adapter.tensorfile import MAX_HEADER_BYTES, MAX_TENSORS
from fettle_trainer.adapter.verify import verify_adapter
from fettle_trainer.config.verification import RefusalCode as Code

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FIRST = f"{af.MODULES[0]}.lora_A.weight"
FIRST_B = f"{af.MODULES[0]}.lora_B.weight"


@dataclass(frozen=True)
class Case:
    name: str
    break_it: Callable[[Path], object]
    code: Code
    file: str = af.WEIGHTS


def weights(name: str, data: bytes, code: Code = Code.WEIGHTS_MALFORMED) -> Case:
    return Case(name, lambda directory: put(directory / af.WEIGHTS, data), code)


def header(
    name: str, change: Callable[[dict[str, Any]], object], code: Code = Code.WEIGHTS_MALFORMED
) -> Case:
    """A header that lies about sound tensor bytes."""
    document = af.header_of(af.tensors())
    change(document)
    return weights(name, af.safetensors(af.tensors(), document), code)


def raw_header(name: str, text: bytes, code: Code = Code.WEIGHTS_MALFORMED) -> Case:
    return weights(name, af.raw_safetensors(text, b""), code)


def content(name: str, change: Callable[[af.Tensors], object], code: Code) -> Case:
    """Tensors that are a sound file but no sound adapter."""
    tensors = af.tensors()
    change(tensors)
    return weights(name, af.safetensors(tensors), code)


def configured(name: str, code: Code, file: str = af.CONFIG, **changes: Any) -> Case:
    return Case(
        name,
        lambda directory: put(directory / af.CONFIG, json.dumps(af.config(**changes)).encode()),
        code,
        file,
    )


def config_text(name: str, text: bytes, code: Code = Code.CONFIG_INVALID) -> Case:
    return Case(name, lambda directory: put(directory / af.CONFIG, text), code, af.CONFIG)


def extra_file(path: str, code: Code = Code.CODE_FILE, data: bytes = b"") -> Case:
    return Case(f"a file {path}", lambda directory: put(directory / path, data), code, path)


def put(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def with_value(dtype: str, value: float) -> af.Tensors:
    """Trained tensors of that dtype whose last number is the given one."""
    tensors = af.tensors(dtype)
    _, shape, data = tensors[FIRST]
    number = af.pack([value], dtype)
    tensors[FIRST] = (dtype, shape, data[: -len(number)] + number)
    return tensors


def renamed(tensors: af.Tensors, old: str, new: str) -> None:
    tensors[new] = tensors.pop(old)


def shaped(tensors: af.Tensors, name: str, shape: list[int]) -> None:
    count = 1
    for extent in shape:
        count *= extent
    tensors[name] = ("F32", shape, af.floats(count))


def link_instead_of(path: Path, target: str) -> None:
    path.unlink()
    path.symlink_to(target)


def bind_socket(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


SOUND = af.safetensors(af.tensors())
DATA_START = 8 + int.from_bytes(SOUND[:8], "little")
ENTRY = b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'

TRUNCATED = [
    weights(f"weights cut off after {size} bytes", SOUND[:size])
    for size in (
        0,
        1,
        7,
        8,
        9,
        64,
        DATA_START - 1,
        DATA_START,
        DATA_START + 1,
        len(SOUND) // 2,
        len(SOUND) - 1,
    )
]

STRUCTURE = [
    weights("bytes behind the last tensor", SOUND + b"\0"),
    weights("a header length of zero", (0).to_bytes(8, "little") + SOUND[8:]),
    weights("a header length beyond the file", (len(SOUND)).to_bytes(8, "little") + SOUND[8:]),
    weights("a header length of 2^63", (2**63).to_bytes(8, "little") + SOUND[8:]),
    weights("a header length one too short", (DATA_START - 9).to_bytes(8, "little") + SOUND[8:]),
    weights("a header length over the limit", (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + SOUND[8:]),
    weights("a pickle under the name of the weights", b"\x80\x02}q\x00." + bytes(64)),
    weights("a zip archive under the name of the weights", b"PK\x03\x04" + bytes(64)),
    weights("zeros", bytes(4096)),
    weights("text", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    raw_header("a header that is a list", b"[]"),
    raw_header("a header that begins with a blank", b" {}"),
    raw_header("a header that is not UTF-8", b'{"\xff":{}}'),
    raw_header("a header with a key twice", b'{"a":' + ENTRY + b',"a":' + ENTRY + b"}"),
    raw_header(
        "an entry with a key twice", b'{"a":{"dtype":"F32","dtype":"F16","shape":[],"data_offsets":[0,0]}}'
    ),
    raw_header("a header with NaN", b'{"a":{"dtype":"F32","shape":[NaN],"data_offsets":[0,0]}}'),
    raw_header("a header nested deeply", b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    raw_header("a header of an endless list", b'{"a":[' + b"1," * 100_000 + b"1]}"),
    raw_header(
        "a header with a huge number",
        b'{"a":{"dtype":"F32","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,0]}}',
    ),
    raw_header(
        "a header with too many tensors", b"{" + b'"a":{},' * (MAX_TENSORS + 9) + b"}", Code.TOO_LARGE
    ),
    raw_header("a header without tensors", b"{}", Code.WEIGHTS_EMPTY),
    header("metadata that is no object of strings", lambda h: h.update(__metadata__={"step": 3})),
    header("an entry without shape", lambda h: h[FIRST].pop("shape")),
    header("an entry with a surplus key", lambda h: h[FIRST].update(stride=[1])),
    header("an entry that is null", lambda h: h.update({FIRST: None})),
    header("an unknown dtype", lambda h: h[FIRST].update(dtype="F31")),
    header("a dtype that is a list", lambda h: h[FIRST].update(dtype=["F32"])),
    header("a negative extent", lambda h: h[FIRST].update(shape=[-af.RANK, -af.WIDTH])),
    header("an extent that is a fraction", lambda h: h[FIRST].update(shape=[4.0, 16])),
    header("an extent that is a boolean", lambda h: h[FIRST].update(shape=[True, 64])),
    header("extents whose product overflows", lambda h: h[FIRST].update(shape=[2**40] * 8)),
    header("a shape larger than its bytes", lambda h: h[FIRST].update(shape=[af.RANK + 1, af.WIDTH])),
    header("offsets in reverse", lambda h: h[FIRST].update(data_offsets=h[FIRST]["data_offsets"][::-1])),
    header("three offsets", lambda h: h[FIRST]["data_offsets"].append(0)),
    header(
        "two tensors in the same bytes", lambda h: h[FIRST_B].update(data_offsets=h[FIRST]["data_offsets"])
    ),
    header("an overlap of four bytes", lambda h: h[FIRST_B].update(data_offsets=[252, 508])),
    header("a hole where a tensor was", lambda h: h.pop(FIRST_B)),
]

NUMBERS = [
    content(
        f"{value} in {dtype}", lambda t, d=dtype, v=value: t.update(with_value(d, v)), Code.WEIGHTS_NOT_FINITE
    )
    for dtype in ("F64", "F32", "F16", "BF16")
    for value in (float("nan"), float("inf"), float("-inf"))
]
NUMBERS += [
    content(
        f"byte {byte:#x} in {dtype}",
        lambda t, d=dtype, b=byte: t.update({FIRST: (d, [af.RANK, af.WIDTH], bytes(63) + bytes([b]))}),
        Code.WEIGHTS_NOT_FINITE,
    )
    for dtype, byte in (("F8_E5M2", 0x7C), ("F8_E5M2", 0xFF), ("F8_E4M3", 0x7F), ("F8_E4M3", 0xFF))
]

LAYOUT = [
    content("no lora_B", lambda t: t.pop(FIRST_B), Code.WEIGHTS_MISMATCH),
    content("no lora_A", lambda t: t.pop(FIRST), Code.WEIGHTS_MISMATCH),
    content(
        "another rank in lora_A", lambda t: shaped(t, FIRST, [af.RANK * 2, af.WIDTH]), Code.WEIGHTS_MISMATCH
    ),
    content("another rank in lora_B", lambda t: shaped(t, FIRST_B, [af.WIDTH, 2]), Code.WEIGHTS_MISMATCH),
    content("one dimension", lambda t: shaped(t, FIRST, [af.RANK]), Code.WEIGHTS_MISMATCH),
    content("an empty tensor", lambda t: t.update({FIRST: ("F32", [0], b"")}), Code.WEIGHTS_EMPTY),
    content(
        "integers", lambda t: t.update({FIRST: ("I8", [af.RANK, af.WIDTH], bytes(64))}), Code.WEIGHTS_MISMATCH
    ),
    content(
        "no PEFT prefix", lambda t: renamed(t, FIRST, "model.q_proj.lora_A.weight"), Code.WEIGHTS_MISMATCH
    ),
    content(
        "the adapter's name still in the tensor's",
        lambda t: renamed(t, FIRST, FIRST.replace("lora_A", "lora_A.default")),
        Code.WEIGHTS_MISMATCH,
    ),
    content(
        "a whole layer that is not in modules_to_save",
        lambda t: shaped(t, "base_model.model.score.weight", [2, 2]),
        Code.WEIGHTS_MISMATCH,
    ),
    content(
        "a module of no name",
        lambda t: (renamed(t, FIRST, "base_model.model..lora_A.weight"), t.pop(FIRST_B)),
        Code.WEIGHTS_MISMATCH,
    ),
    content(
        "the same part twice",
        lambda t: shaped(t, FIRST.replace("lora_A.weight", "lora_embedding_A"), [af.RANK, af.WIDTH]),
        Code.WEIGHTS_MISMATCH,
    ),
    content(
        "a DoRA magnitude without use_dora",
        lambda t: shaped(t, FIRST.replace("lora_A.weight", "lora_magnitude_vector"), [af.WIDTH]),
        Code.WEIGHTS_MISMATCH,
    ),
    configured("use_dora without magnitudes", Code.WEIGHTS_MISMATCH, af.WEIGHTS, use_dora=True),
    configured("another r than the tensors", Code.WEIGHTS_MISMATCH, af.WEIGHTS, r=8),
    configured(
        "a rank_pattern that does not hold", Code.WEIGHTS_MISMATCH, af.WEIGHTS, rank_pattern={"q_proj": 8}
    ),
    configured(
        "target_modules of another model", Code.WEIGHTS_MISMATCH, af.WEIGHTS, target_modules=["c_attn"]
    ),
]

CONFIGURATION = [
    config_text("an empty configuration file", b""),
    config_text("a configuration that is no JSON", b"{r: 4}"),
    config_text("a configuration that is a list", b"[]"),
    config_text("a configuration with a key twice", b'{"peft_type":"LORA","r":4,"r":8}'),
    config_text("a configuration in UTF-16", json.dumps(af.config()).encode("utf-16")),
    config_text("a configuration nested deeply", b"[" * 100_000),
    config_text("a configuration over the limit", b" " * (2**20 + 1), Code.TOO_LARGE),
    configured("another method", Code.METHOD_UNSUPPORTED, peft_type="LOHA"),
    configured("no method", Code.CONFIG_INVALID, peft_type=None),
    configured("a rank of zero", Code.CONFIG_INVALID, r=0),
    configured("a rank that is text", Code.CONFIG_INVALID, r="4"),
    configured("an alpha of zero", Code.CONFIG_INVALID, lora_alpha=0),
    configured("no target modules", Code.CONFIG_INVALID, target_modules=None),
    configured("an empty list of target modules", Code.CONFIG_INVALID, target_modules=[]),
    configured("target modules that are numbers", Code.CONFIG_INVALID, target_modules=[1]),
    configured("no base model", Code.CONFIG_INVALID, base_model_name_or_path=None),
    configured("an empty base model", Code.CONFIG_INVALID, base_model_name_or_path=""),
    *(
        configured(f"initialised by {init}", Code.METHOD_UNSUPPORTED, init_lora_weights=init)
        for init in ("pissa", "pissa_niter_4", "olora", "corda", "loftq")
    ),
    configured(
        "classes from a foreign library", Code.CODE_FILE, auto_mapping={"parent_library": "evil.models"}
    ),
    Case(
        "a tokenizer that needs its author's code",
        lambda d: put(d / "tokenizer_config.json", b'{"auto_map": {"AutoTokenizer": ["x.py", null]}}'),
        Code.CODE_FILE,
        "tokenizer_config.json",
    ),
    Case("a broken config.json", lambda d: put(d / "config.json", b"{"), Code.CONFIG_INVALID, "config.json"),
    Case("no configuration", lambda d: (d / af.CONFIG).unlink(), Code.CONFIG_MISSING, af.CONFIG),
    Case("no weights", lambda d: (d / af.WEIGHTS).unlink(), Code.WEIGHTS_MISSING),
]

FILES = [
    *(
        extra_file(path)
        for path in (
            "adapter_model.bin", "training_args.bin", "optimizer.pt", "rng_state.pth", "state.pkl", "A.PKL",
            "model.ckpt", "x.npy", "checkpoint-5/optimizer.pt", "modeling_x.py", "kernel.so",
        )
    ),
    Case("weights that are a link", lambda d: link_instead_of(d / af.WEIGHTS, "/etc/passwd"), Code.UNSAFE_FILE),
    Case("a link to a sound file", lambda d: link_instead_of(d / af.TEMPLATE, af.CONFIG), Code.UNSAFE_FILE, af.TEMPLATE),
    Case("a dangling link", lambda d: (d / "x").symlink_to("nowhere"), Code.UNSAFE_FILE, "x"),
    Case("a folder that is a link", lambda d: (d / "x").symlink_to("/proc/self"), Code.UNSAFE_FILE, "x"),
    Case("a link in a subfolder", lambda d: ((d / "s").mkdir(), (d / "s/x").symlink_to("/")), Code.UNSAFE_FILE, "s/x"),
    Case("a named pipe", lambda d: os.mkfifo(d / "x"), Code.UNSAFE_FILE, "x"),
    Case("a socket", lambda d: bind_socket(d / "x"), Code.UNSAFE_FILE, "x"),
    Case("a line break in a name", lambda d: put(d / "a\nb", b""), Code.UNSAFE_FILE, "a\\nb"),
    Case("a name that is not UTF-8", lambda d: put(d / os.fsdecode(b"\xff"), b""), Code.UNSAFE_FILE, "\\udcff"),
    Case("1,025 files", lambda d: [put(d / f"{n}.txt", b"") for n in range(1025)], Code.TOO_LARGE, ""),
    Case("folders nested deeply", lambda d: (d / "/".join("abcdefghijk")).mkdir(parents=True), Code.TOO_LARGE, "a/b/c/d/e/f/g/h/i"),
    Case("a sparse file of 1 TB", lambda d: os.truncate((d / af.TEMPLATE), 10**12), Code.TOO_LARGE, ""),
]  # fmt: skip

MALFORMED = TRUNCATED + STRUCTURE + NUMBERS + LAYOUT + CONFIGURATION + FILES


@pytest.mark.parametrize("case", MALFORMED, ids=lambda case: case.name)
def test_a_wrong_adapter_is_refused_with_its_code_and_file(case: Case, tmp_path: Path) -> None:
    directory = af.write_adapter(tmp_path / "adapter")
    verify_adapter(directory)

    case.break_it(directory)

    with pytest.raises(AdapterRefusedError) as refusal:
        verify_adapter(directory)
    assert (refusal.value.code, refusal.value.file) == (case.code, case.file)
    assert refusal.value.message.endswith(".")


SEALED = [
    Case("a byte changed", lambda d: put(d / af.TEMPLATE, (d / af.TEMPLATE).read_bytes().swapcase()), Code.DIGEST_MISMATCH, af.TEMPLATE),
    Case("a file grown", lambda d: put(d / af.TEMPLATE, b"longer" * 99), Code.DIGEST_MISMATCH, af.TEMPLATE),
    Case("a file gone", lambda d: (d / af.TEMPLATE).unlink(), Code.FILE_MISSING, af.TEMPLATE),
    Case("the weights gone", lambda d: (d / af.WEIGHTS).unlink(), Code.FILE_MISSING),
    Case("a file more", lambda d: put(d / "README.md", b""), Code.FILE_UNEXPECTED, "README.md"),
    Case("other weights of the same size", lambda d: put(d / af.WEIGHTS, af.safetensors({**af.tensors(), FIRST: ("F32", [4, 16], af.floats(64, seed=9))})), Code.DIGEST_MISMATCH),
    Case("the manifest empty", lambda d: put(d / "manifest.json", b""), Code.MANIFEST_INVALID, "manifest.json"),
    Case("the manifest a list", lambda d: put(d / "manifest.json", b"[]"), Code.MANIFEST_INVALID, "manifest.json"),
    Case("the manifest edited", lambda d: put(d / "manifest.json", (d / "manifest.json").read_bytes().replace(b"0.25", b"0.01")), Code.MANIFEST_INVALID, "manifest.json"),
    Case("the manifest of a later release", lambda d: put(d / "manifest.json", b'{"schemaVersion": 2}'), Code.MANIFEST_INVALID, "manifest.json"),
]  # fmt: skip


@pytest.mark.parametrize("case", SEALED, ids=lambda case: case.name)
def test_a_sealed_adapter_is_refused_once_anything_changed(case: Case, tmp_path: Path) -> None:
    directory = af.write_adapter(tmp_path / "adapter")
    seal_adapter(directory, Provenance(metrics={"evalLoss": 0.25}))
    verify_adapter(directory)

    case.break_it(directory)

    with pytest.raises(AdapterRefusedError) as refusal:
        verify_adapter(directory)
    assert (refusal.value.code, refusal.value.file) == (case.code, case.file)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"rank": 8}, Code.MANIFEST_MISMATCH),
        ({"alpha": 9}, Code.MANIFEST_MISMATCH),
        ({"method": "dora"}, Code.MANIFEST_MISMATCH),
        ({"target_modules": ("k_proj",)}, Code.MANIFEST_MISMATCH),
        ({"template_hash": "sha256:" + "0" * 64}, Code.TEMPLATE_MISMATCH),
        ({"digest": "sha256:" + "0" * 64}, Code.DIGEST_MISMATCH),
        ({"files": ()}, Code.MANIFEST_INVALID),
    ],
)
def test_a_manifest_must_say_what_the_files_say(changes: dict[str, Any], code: Code, tmp_path: Path) -> None:
    directory = af.write_adapter(tmp_path / "adapter")
    af.write_manifest(directory, seal_adapter(directory, Provenance()).model_copy(update=changes))

    with pytest.raises(AdapterRefusedError) as refusal:
        verify_adapter(directory)
    assert refusal.value.code == code


@pytest.mark.parametrize("name", ["a/../adapter", "link", "file/adapter", "missing"])
def test_a_path_that_leaves_or_misses_the_directory_is_refused(name: str, tmp_path: Path) -> None:
    af.write_adapter(tmp_path / "adapter")
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to("adapter")
    (tmp_path / "file").write_text("")

    with pytest.raises(AdapterRefusedError) as refusal:
        verify_adapter(tmp_path / name)
    assert refusal.value.code in {Code.UNSAFE_FILE, Code.DIRECTORY_MISSING}
