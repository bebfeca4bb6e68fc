"""An adapter put into the model module by module, so that steps can be taken in between.

PEFT adds an adapter in one call, which for a deep model takes about a second and longer the more adapters there are. Here
the same is done for one module at a time, by the function that PEFT calls for each of them. Until the last one is in
place no row is sent through the adapter, and a module that has it already leaves it out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import torch
from peft.tuners.lora.layer import LoraLayer
from peft.utils.integrations import init_empty_weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from peft import LoraConfig

__all__ = ["WeightsDoNotFitError", "modules_of", "put_in"]

_TENSOR: Final = re.compile(r"base_model\.model\.(.+)\.(lora_A|lora_B)\.(weight|bias)")


class WeightsDoNotFitError(Exception):
    """The adapter's weights are not those that the base model has room for."""


def modules_of(causal: Any, config: LoraConfig, tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """Return the modules that an adapter belongs to; none if it is of a kind that only PEFT as a whole can add."""
    if config.use_dora or config.modules_to_save or config.ensure_weight_tying:
        return []
    found = [_TENSOR.fullmatch(name) for name in tensors]
    paths = {match.group(1) for match in found if match}
    there = {path for path, module in causal.named_modules() if _is_linear(module)}
    return sorted(paths) if all(found) and paths <= there else []


def put_in(
    tuner: Any, name: str, config: LoraConfig, tensors: Mapping[str, torch.Tensor], paths: list[str]
) -> Iterator[None]:
    """Give each module its part of an adapter; the caller may run the model whenever this stops for a moment."""
    causal = tuner.model
    tuner.peft_config[name] = config
    for path in paths:
        parent, _, child = path.rpartition(".")
        owner = causal.get_submodule(parent)
        target = owner.get_submodule(child)
        if not (isinstance(target, LoraLayer) and name in target.lora_A):
            active = list(target.active_adapters) if isinstance(target, LoraLayer) else []
            with init_empty_weights():
                # There is no public way to add to one module; PEFT is pinned to a minor version.
                tuner._create_and_replace(config, name, target, child, owner, current_key=path)  # noqa: SLF001
            owner.get_submodule(child).set_adapter(active, inference_mode=True)
        _fill(owner.get_submodule(child), name, path, tensors)
        yield


def _fill(layer: Any, name: str, path: str, tensors: Mapping[str, torch.Tensor]) -> None:
    device = layer.get_base_layer().weight.device
    for part in ("lora_A", "lora_B"):
        linear = getattr(layer, part)[name]
        for kind in ("weight", "bias"):
            key = f"base_model.model.{path}.{part}.{kind}"
            empty, tensor = getattr(linear, kind, None), tensors.get(key)
            if (empty is None) != (tensor is None):
                raise WeightsDoNotFitError(key)
            if empty is None or tensor is None:
                continue
            if empty.shape != tensor.shape:
                raise WeightsDoNotFitError(f"{key} is {tuple(tensor.shape)} and not {tuple(empty.shape)}")
            setattr(linear, kind, torch.nn.Parameter(tensor.to(device), requires_grad=False))
    layer.eval()


def _is_linear(module: Any) -> bool:
    base = module.get_base_layer() if isinstance(module, LoraLayer) else module
    return isinstance(base, torch.nn.Linear)
