"""Adapter directories for tests, written byte by byte as PEFT writes them (no PEFT needed)."""

from __future__ import annotations

import json
import random
import struct
from typing import TYPE_CHECKING, Any

from fettle_trainer.adapter.manifest_file import render_manifest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fettle_trainer.config import Manifest

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MANIFEST = "manifest.json"
TEMPLATE = "chat_template.jinja"
RANK = 4
WIDTH = 16
MODULES = tuple(
    f"base_model.model.model.layers.{layer}.self_attn.{name}"
    for layer in range(2)
    for name in ("q_proj", "v_proj")
)

Tensors = dict[str, tuple[str, list[int], bytes]]
"""Name → dtype, shape and bytes."""


def config(**changes: Any) -> dict[str, Any]:
    """Return an adapter_config.json with the keys that PEFT 0.21 writes, some of them changed."""
    return {
        "alora_invocation_tokens": None,
        "alpha_pattern": {},
        "auto_mapping": None,
        "base_model_name_or_path": "example/tiny-llama",
        "bias": "none",
        "exclude_modules": None,
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": 8,
        "lora_bias": False,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "peft_version": "0.21.2",
        "r": RANK,
        "rank_pattern": {},
        "revision": None,
        "target_modules": ["v_proj", "q_proj"],
        "target_parameters": None,
        "task_type": "CAUSAL_LM",
        "trainable_token_indices": None,
        "use_dora": False,
        "use_rslora": False,
    } | changes


def floats(count: int, dtype: str = "F32", seed: int = 1) -> bytes:
    """Return so many small random numbers in the bytes of that dtype."""
    source = random.Random(seed)  # noqa: S311 - test data
    values = [source.uniform(-1, 1) for _ in range(count)]
    return pack(values, dtype)


def pack(values: list[float], dtype: str) -> bytes:
    """Return numbers in the bytes of a floating-point dtype."""
    if dtype == "BF16":
        return b"".join(struct.pack("<f", value)[2:] for value in values)
    code = {"F16": "e", "F32": "f", "F64": "d"}[dtype]
    return struct.pack(f"<{len(values)}{code}", *values)


def tensors(dtype: str = "F32", rank: int = RANK) -> Tensors:
    """Return the tensors of a small trained adapter."""
    result: Tensors = {}
    for number, module in enumerate(MODULES):
        result[f"{module}.lora_A.weight"] = (dtype, [rank, WIDTH], floats(rank * WIDTH, dtype, number))
        result[f"{module}.lora_B.weight"] = (dtype, [WIDTH, rank], floats(rank * WIDTH, dtype, number + 99))
    return result


def header_of(content: Mapping[str, tuple[str, list[int], bytes]]) -> dict[str, Any]:
    """Return the JSON header that describes these tensors, one behind the other."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, (dtype, shape, data) in content.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + len(data)]}
        position += len(data)
    return header


def safetensors(
    content: Mapping[str, tuple[str, list[int], bytes]], header: dict[str, Any] | None = None
) -> bytes:
    """Return a safetensors file; a header of one's own may lie about the content."""
    text = json.dumps(header_of(content) if header is None else header).encode()
    return raw_safetensors(text, b"".join(data for _, _, data in content.values()))


def raw_safetensors(header: bytes, data: bytes) -> bytes:
    """Return header and data framed as a safetensors file, padded as the library does."""
    padded = header + b" " * (-len(header) % 8)
    return len(padded).to_bytes(8, "little") + padded + data


def write_adapter(
    directory: Path, *, weights: bytes | None = None, config_changes: Mapping[str, Any] | None = None
) -> Path:
    """Write a sound adapter directory, or one with the given weights or configuration; return it."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / CONFIG).write_text(json.dumps(config(**(config_changes or {})), indent=2))
    (directory / WEIGHTS).write_bytes(safetensors(tensors()) if weights is None else weights)
    (directory / TEMPLATE).write_text("{% for message in messages %}{{ message.content }}{% endfor %}")
    (directory / "tokenizer_config.json").write_text('{"model_max_length": 2048}')
    return directory


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write a manifest that need not be true, properly sealed."""
    (directory / MANIFEST).write_bytes(render_manifest(manifest))
