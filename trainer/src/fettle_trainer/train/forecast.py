"""What a run will need, told before it starts: from the headers of the weights, without torch."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from safetensors import SafetensorError, safe_open

from fettle_trainer.config.dataset_report import RunForecast
from fettle_trainer.safety import CONFIG_NAME, read_object
from fettle_trainer.train.chosen import chosen_settings
from fettle_trainer.train.memory import ModelShape
from fettle_trainer.train.settings import RowFacts, adapter_rank, resolve
from fettle_trainer.watch.flops import flops_per_token, peak_flops

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from fettle_trainer.config.dataset import RowFormat
    from fettle_trainer.config.dataset_report import TokenFacts
    from fettle_trainer.config.run import RunConfig
    from fettle_trainer.train.hardware import Hardware
    from fettle_trainer.train.settings import Resolved

_REACHED: Final = {"cpu": 0.4, "cuda": 0.35}
"""Share of the device's arithmetic that training usually gets out of it."""
_MEASURED_SIZE: Final = 768
_NO_TARGETS: Final = ("embed", "lm_head", "wte", "wpe")
"""Matrices that `all-linear` leaves out: embeddings and the output head."""


@dataclass(frozen=True)
class Prospect:
    """What is known before a run: its data as tokens, and the model that it would train."""

    facts: TokenFacts
    row_format: RowFormat | None
    packs: int | None
    """How many sequences the rows are laid into, where they are packed."""
    shape: ModelShape | None
    """None where the headers of its weights cannot be read."""


def forecast(config: RunConfig, prospect: Prospect, hardware: Hardware) -> RunForecast | None:
    """Resolve the settings for that hardware and say what comes of them; None without weights as safetensors.

    Raises WrongInputError where this hardware cannot do what the configuration asks for.
    """
    facts, shape, packs = prospect.facts, prospect.shape, prospect.packs
    if shape is None or not facts.rows:
        return None
    rows = RowFacts(
        rows=facts.rows if packs is None else packs,
        max_length=facts.max_length,
        longest=min(facts.longest, facts.max_length) if packs is None else facts.max_length,
        trained_share=facts.trained_token_share,
        validation_rows=facts.validation_rows,
    )
    resolved = resolve(config, rows, shape, hardware, varlen_attention=False)
    return RunForecast(
        device=hardware.name[:128],
        steps=resolved.total_steps,
        batch_size=resolved.batch_size,
        micro_batch_size=resolved.micro_batch_size,
        gradient_checkpointing=resolved.gradient_checkpointing,
        precision=resolved.precision,
        zero_stage=resolved.zero_stage,
        memory_bytes=resolved.memory_bytes,
        fits=resolved.memory_bytes <= hardware.memory_bytes,
        seconds=_seconds(shape, facts, rows.rows, resolved, hardware),
        resolved=chosen_settings(config, resolved, prospect.row_format),
    )


def shape_from_headers(
    config: RunConfig, model_folder: Path, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> ModelShape | None:
    """Return what the memory depends on, from the files' headers, or the shapes found there, and the configuration."""
    document = read_object(model_folder / CONFIG_NAME) if (model_folder / CONFIG_NAME).is_file() else {}
    text = document.get("text_config")
    described: dict[str, Any] = document | (text if isinstance(text, dict) else {})
    numbers = [described.get(name) for name in ("num_hidden_layers", "hidden_size", "vocab_size")]
    shapes = dict(_tensor_shapes(model_folder)) if shapes is None else shapes
    if not shapes or not all(isinstance(number, int) for number in numbers):
        return None
    layers, hidden, vocabulary = (int(str(number)) for number in numbers)
    parameters = sum(math.prod(shape) for shape in shapes.values())
    adapted = parameters if config.method == "full" else _adapter_parameters(config, shapes)
    return ModelShape(parameters, layers, hidden, vocabulary, trainable=adapted)


def _tensor_shapes(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="np") as file:
                for name in file.keys():  # noqa: SIM118 - it is no mapping
                    yield name, tuple(file.get_slice(name).get_shape())
        except (OSError, SafetensorError):
            # Whether the weights can be read is not what is asked here; whoever loads them says it.
            return


def _adapter_parameters(config: RunConfig, shapes: Mapping[str, tuple[int, ...]]) -> int:
    wanted = config.lora.target_modules
    total = 0
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        if len(shape) != 2 or module == name or any(part in module for part in _NO_TARGETS):
            continue
        if wanted == "all-linear" or module.rsplit(".", 1)[-1] in wanted or module in wanted:
            total += adapter_rank(config, None) * sum(shape)
    return total


def _seconds(
    shape: ModelShape, facts: TokenFacts, rows: int, resolved: Resolved, hardware: Hardware
) -> int | None:
    peak = peak_flops(hardware.name) if hardware.is_gpu else _measured_flops()
    if peak is None:
        return None
    tokens = facts.tokens * resolved.total_steps * resolved.batch_size / rows
    work = tokens * flops_per_token(shape, resolved.method, facts.tokens / facts.rows)
    return math.ceil(work / (peak * _REACHED[hardware.device] * resolved.world_size))


def _measured_flops() -> float:
    """Multiply two matrices and return how many operations a second that was."""
    matrix = np.ones((_MEASURED_SIZE, _MEASURED_SIZE), dtype=np.float32)
    matrix @ matrix  # the first time also pays for threads and pages
    started = time.perf_counter()
    matrix @ matrix
    return float(2 * _MEASURED_SIZE**3 / max(time.perf_counter() - started, 1e-9))
