"""DeepSpeed's configuration for a resolved run, and which device DeepSpeed takes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import MutableMapping

_BELOW_ANY_RUN = 10**9


def deepspeed_config(
    stage: Literal[0, 1, 2, 3],
    precision: Literal["fp32", "bf16", "fp16"],
    offload: Literal["none", "optimizer", "parameters"] = "none",
    *,
    on_gpu: bool,
) -> dict[str, Any]:
    """Return the document for `TrainingArguments(deepspeed=…)`; batch sizes and clipping come from there."""
    return {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": precision == "bf16"},
        "fp16": {"enabled": precision == "fp16"},
        "zero_optimization": _zero(stage, offload, on_gpu=on_gpu),
        # torch's fused AdamW also runs on the CPU; DeepSpeed's own would be compiled when the run starts.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": _BELOW_ANY_RUN,
        "wall_clock_breakdown": False,
    }


def choose_device(environment: MutableMapping[str, str] = os.environ, *, on_gpu: bool) -> None:
    """Tell DeepSpeed the device before it is imported; left alone it looks for compilers and drivers."""
    environment.setdefault("DS_ACCELERATOR", "cuda" if on_gpu else "cpu")


def _zero(stage: int, offload: str, *, on_gpu: bool) -> dict[str, Any]:
    zero: dict[str, Any] = {"stage": stage}
    if stage in {1, 2}:
        zero |= {"contiguous_gradients": True, "overlap_comm": on_gpu, "reduce_bucket_size": "auto"}
    if stage == 3:
        zero |= {
            "contiguous_gradients": True,
            "overlap_comm": on_gpu,
            "reduce_bucket_size": "auto",
            "stage3_prefetch_bucket_size": "auto",
            "stage3_param_persistence_threshold": "auto",
            # Without this a checkpoint has no weights that anything but DeepSpeed can read.
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    place = {"device": "cpu", "pin_memory": on_gpu}
    if offload in {"optimizer", "parameters"}:
        zero["offload_optimizer"] = place
    if offload == "parameters":
        zero["offload_param"] = place
    return zero
