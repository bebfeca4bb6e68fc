"""An adapter's optimizer state by parameter name, whole: what another number of ranks can go on from.

DeepSpeed's own files are cut for one number of ranks. An adapter's optimizer state is a few megabytes, so it is
saved whole beside them, and read back into whatever layout the next attempt has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import distributed
from torch.nn import functional

from fettle_trainer.errors import IncompleteError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PORTABLE_NAME: Final = "portable-optimizer.safetensors"
_MOMENTS: Final = ("exp_avg", "exp_avg_sq")
_MASTER: Final = "master"
_STEP: Final = "step"


def is_portable(optimizer: torch.optim.Optimizer) -> bool:
    """Whether the optimizer is of the Adam family with plain moments; 8-bit and factored states are not."""
    return isinstance(_layers(optimizer)[-1], torch.optim.Adam | torch.optim.AdamW)


def save_portable(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, path: Path, *, write: bool
) -> None:
    """Collect the state on all ranks, which must call this together; one of them writes."""
    tensors = {
        f"{name}|{key}": value.detach().to("cpu", torch.float32).contiguous().clone()
        for name, parameter in _trained(model)
        for key, value in _whole_state(parameter, optimizer).items()
    }
    if write:
        save_file(tensors, path, metadata={_STEP: str(_step_of(optimizer))})


def load_portable(model: torch.nn.Module, optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Put a saved state into this layout's optimizer; the weights themselves have been loaded."""
    with safe_open(path, framework="pt") as file:
        step = int(file.metadata()[_STEP])
        names = set(file.keys())
        for name, _ in _trained(model):
            if f"{name}|{_MOMENTS[0]}" not in names:
                raise IncompleteError(
                    "CheckpointIncomplete", f"{path} holds no optimizer state of {name}.", path.name
                )
        _make_states(optimizer, step)
        for name, parameter in _trained(model):
            state = {key: file.get_tensor(f"{name}|{key}") for key in (_MASTER, *_MOMENTS)}
            _put_state(parameter, optimizer, state)


def _trained(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad)


def _layers(optimizer: Any) -> list[Any]:
    """Return accelerate's wrapper, DeepSpeed's optimizer if there is one, and torch's own, from the outside in."""
    layers = [optimizer]
    while hasattr(layers[-1], "optimizer"):
        layers.append(layers[-1].optimizer)
    return layers


def _is_zero3(parameter: Any) -> bool:
    return hasattr(parameter, "ds_id")


def _is_zero12(parameter: Any) -> bool:
    return hasattr(parameter, "get_full_hp_param")


def _step_of(optimizer: Any) -> int:
    states = _layers(optimizer)[-1].state.values()
    return max((int(state[_STEP]) for state in states if _STEP in state), default=0)


def _whole_state(parameter: torch.nn.Parameter, optimizer: Any) -> dict[str, torch.Tensor]:
    if _is_zero3(parameter) or _is_zero12(parameter):
        from deepspeed.utils import (  # noqa: PLC0415 - a run without DeepSpeed must not wait for its import
            safe_get_full_fp32_param,
            safe_get_full_optimizer_state,
        )

        moments = {key: safe_get_full_optimizer_state(parameter, key) for key in _MOMENTS}
        return {_MASTER: safe_get_full_fp32_param(parameter), **moments}
    state = _layers(optimizer)[-1].state[parameter]
    return {_MASTER: parameter, **{key: state[key] for key in _MOMENTS}}


def _make_states(optimizer: Any, step: int) -> None:
    """Create the moments, which the optimizer itself only does in its first step."""
    inner = _layers(optimizer)[-1]
    zero = next((layer for layer in _layers(optimizer) if hasattr(layer, "bit16_groups")), None)
    zero3 = next(
        (layer for layer in _layers(optimizer) if hasattr(layer, "fp32_partitioned_groups_flat")), None
    )
    tensors = (
        zero3.fp32_partitioned_groups_flat
        if zero3
        else [tensor for group in inner.param_groups for tensor in group["params"]]
    )
    on_device = inner.defaults.get("fused") or inner.defaults.get("capturable")
    for tensor in tensors:
        inner.state[tensor] = {
            _STEP: torch.tensor(float(step), device=tensor.device if on_device else "cpu"),
            **{key: torch.zeros_like(tensor) for key in _MOMENTS},
        }
    if zero is not None:
        from deepspeed.utils import (  # noqa: PLC0415 - as above
            lazy_init_hp_params_optimizer_state,
        )

        for parameters, flat in zip(zero.bit16_groups, zero.single_partition_of_fp32_groups, strict=True):
            lazy_init_hp_params_optimizer_state(parameters, flat, inner.state)


def _put_state(parameter: torch.nn.Parameter, optimizer: Any, state: dict[str, torch.Tensor]) -> None:
    if _is_zero3(parameter):
        from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state  # noqa: PLC0415

        safe_set_local_fp32_param(parameter, _own_slice(parameter, state[_MASTER]))
        for key in _MOMENTS:
            safe_set_local_optimizer_state(parameter, _own_slice(parameter, state[key]), key)
    elif _is_zero12(parameter):
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state  # noqa: PLC0415

        safe_set_full_fp32_param(parameter, state[_MASTER])
        for key in _MOMENTS:
            safe_set_full_optimizer_state(parameter, state[key], key)
    else:
        own = _layers(optimizer)[-1].state[parameter]
        with torch.no_grad():
            parameter.copy_(state[_MASTER])
            for key in _MOMENTS:
                own[key].copy_(state[key])


def _own_slice(parameter: Any, whole: torch.Tensor) -> torch.Tensor:
    """Return what this rank holds of a tensor: ZeRO-3 cuts it evenly, with zeros behind its end."""
    size = parameter.ds_tensor.numel()
    padded = functional.pad(whole.flatten(), (0, size * distributed.get_world_size() - whole.numel()))
    return padded.narrow(0, size * distributed.get_rank(), size)
