"""What the tensors of a PEFT adapter must be called and how large they are, given its configuration."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NoReturn

from fettle_trainer.adapter.errors import AdapterRefusedError
from fettle_trainer.config.verification import RefusalCode
from fettle_trainer.strict_json import shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fettle_trainer.adapter.peft_config import PeftConfig
    from fettle_trainer.adapter.tensorfile import Tensor

WEIGHTS_NAME: Final = "adapter_model.safetensors"
_PREFIX: Final = "base_model.model."
_FLOATS: Final = frozenset({"F64", "F32", "F16", "BF16", "F8_E5M2", "F8_E4M3"})
_MAX_LEAF: Final = 128
_MAX_LEAVES: Final = 1024
_EMBEDDINGS: Final = frozenset({"embed_tokens", "lm_head"})
"""Layers that PEFT saves whole when the vocabulary was resized (peft EMBEDDING_LAYER_NAMES)."""

# PEFT's suffix of a tensor's name → the part that the tensor plays in its module.
_PARTS: Final = {
    ".lora_A.weight": "A",
    ".lora_B.weight": "B",
    ".lora_embedding_A": "A",
    ".lora_embedding_B": "B",
    ".lora_A.bias": "bias of A",
    ".lora_B.bias": "bias of B",
    ".lora_magnitude_vector": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
}


@dataclass(frozen=True)
class LoraLayout:
    """What the tensors say about the adapter."""

    rank: int
    """The largest of any module."""
    target_modules: tuple[str, ...]
    """Distinct last name parts of the adapted modules."""
    gain_tensors: frozenset[str]
    """Names of the lora_B tensors: all zero means that nothing was trained."""


def check_layout(tensors: Iterable[Tensor], config: PeftConfig) -> LoraLayout:
    """Refuse tensors that PEFT would not write for this configuration; else say what they are."""
    modules = _grouped(tensors, config)
    if not modules:
        raise AdapterRefusedError(
            RefusalCode.WEIGHTS_EMPTY, f"{WEIGHTS_NAME} holds no LoRA tensor.", WEIGHTS_NAME
        )
    for module, parts in modules.items():
        _check_name(module)
        _check_target(module, config)
        _check_parts(module, parts, config)
    leaves = tuple(sorted({_leaf(module) for module in modules}))
    if len(leaves) > _MAX_LEAVES:
        _mismatch(f"it adapts modules of {len(leaves)} different names")
    return LoraLayout(
        rank=max(config.rank_of(module) for module in modules),
        target_modules=leaves,
        gain_tensors=frozenset(parts["B"].name for parts in modules.values()),
    )


def _leaf(module: str) -> str:
    return module.removesuffix(".base_layer").rpartition(".")[2]


def _grouped(tensors: Iterable[Tensor], config: PeftConfig) -> dict[str, dict[str, Tensor]]:
    modules: defaultdict[str, dict[str, Tensor]] = defaultdict(dict)
    for tensor in tensors:
        if not tensor.name.startswith(_PREFIX):
            _mismatch(f"tensor {shown(tensor.name)} does not begin with '{_PREFIX}' as PEFT's do")
        if 0 in tensor.shape:
            raise AdapterRefusedError(
                RefusalCode.WEIGHTS_EMPTY,
                f"Tensor {shown(tensor.name)} of {WEIGHTS_NAME} is empty; an adapter saved under ZeRO-3 without "
                "gathering its shards looks like this. Save it again.",
                WEIGHTS_NAME,
            )
        module, part = _split(tensor.name)
        if part in modules.get(module, {}):
            _mismatch(
                f"tensor {shown(tensor.name)} plays the same part as {shown(modules[module][part].name)}"
            )
        if part:
            modules[module][part] = tensor
        elif not _is_saved_whole(tensor.name, config):
            _mismatch(f"tensor {shown(tensor.name)} is neither a LoRA tensor nor in modules_to_save")
    return dict(modules)


def _split(name: str) -> tuple[str, str]:
    for suffix, part in _PARTS.items():
        if name.endswith(suffix):
            return name.removeprefix(_PREFIX).removesuffix(suffix), part
    return name, ""


def _is_saved_whole(name: str, config: PeftConfig) -> bool:
    parts = set(name.split("."))
    return (
        bool(parts & (_EMBEDDINGS | set(config.modules_to_save or ())))
        or (name.endswith(".bias") and config.bias != "none")
        or (name.endswith(".trainable_tokens_delta") and config.trainable_token_indices is not None)
    )


def _check_name(module: str) -> None:
    if not 0 < len(_leaf(module)) <= _MAX_LEAF:
        _mismatch(f"module {shown(module)} has no usable name")


def _check_target(module: str, config: PeftConfig) -> None:
    # A string is "all-linear" or a regular expression; a stranger's expression is not run here.
    if config.target_parameters or not isinstance(config.target_modules, list):
        return
    # With a tied or resized embedding PEFT inserts the name of its wrapper.
    path = module.removesuffix(".base_layer")
    if not any(path == target or path.endswith(f".{target}") for target in config.target_modules):
        _mismatch(f"module {shown(module)} is adapted but not in target_modules")


def _check_parts(module: str, parts: dict[str, Tensor], config: PeftConfig) -> None:
    for part, letter in (("A", "lora_A"), ("B", "lora_B")):
        if part not in parts:
            _mismatch(f"module {shown(module)} has no {letter} tensor")
    for tensor in parts.values():
        if tensor.dtype not in _FLOATS:
            _mismatch(f"tensor {shown(tensor.name)} is of dtype {tensor.dtype}, not a floating-point type")
    _check_rank(module, parts["A"], parts["B"], config)
    _check_magnitude(module, parts, config)


def _check_rank(module: str, down: Tensor, up: Tensor, config: PeftConfig) -> None:
    """lora_A is [rank, in …] and lora_B [out, rank …]; for experts' parameters the rank counts once per expert."""
    if len(down.shape) < 2 or len(up.shape) < 2:
        _mismatch(
            f"the tensors of module {shown(module)} have shapes {down.shape} and {up.shape}, not two dimensions"
        )
    rank = config.rank_of(module)
    found = down.shape[0]
    fits = found % rank == 0 if config.target_parameters else found == rank
    if not fits:
        _mismatch(
            f"tensor {shown(down.name)} of shape {down.shape} has rank {found}, the configuration says {rank}"
        )
    if up.shape[1] != found:
        _mismatch(
            f"tensor {shown(up.name)} of shape {up.shape} has rank {up.shape[1]}, its lora_A has {found}"
        )


def _check_magnitude(module: str, parts: dict[str, Tensor], config: PeftConfig) -> None:
    magnitude = parts.get("magnitude")
    if config.use_dora and magnitude is None:
        _mismatch(f"use_dora is set, but module {shown(module)} has no lora_magnitude_vector")
    if magnitude is None:
        return
    if not config.use_dora:
        _mismatch(f"module {shown(module)} has a lora_magnitude_vector, but use_dora is not set")
    if parts["B"].shape[0] not in magnitude.shape and parts["A"].shape[1] not in magnitude.shape:
        _mismatch(
            f"tensor {shown(magnitude.name)} of shape {magnitude.shape} does not fit lora_B of shape {parts['B'].shape}"
        )


def _mismatch(problem: str) -> NoReturn:
    raise AdapterRefusedError(
        RefusalCode.WEIGHTS_MISMATCH,
        f"{WEIGHTS_NAME} does not fit adapter_config.json: {problem}. Both must come from the same save.",
        WEIGHTS_NAME,
    )
