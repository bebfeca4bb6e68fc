"""Loading what was exported as a stranger would: from its files and the base's, in a fresh model."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import torch
from peft import PeftModel

from fettle_trainer.adapter.peft_config import CONFIG_NAME
from fettle_trainer.train.model import load_base

if TYPE_CHECKING:
    from pathlib import Path

    from fettle_trainer.config.adapter import Method
    from fettle_trainer.train.memory import Precision


def load_artefact(folder: Path, base: Path, method: Method, precision: Precision) -> Any:
    """Return an exported adapter on its base, or an exported model."""
    if (folder / CONFIG_NAME).exists():
        return on_device(PeftModel.from_pretrained(load_base(base, method, precision), str(folder)))
    return on_device(load_base(folder, "lora", precision))


def load_merged(adapter: Path, base: Path, method: Method, precision: Precision) -> Any:
    """Return the base with the adapter merged into its weights.

    A QLoRA adapter has learned to correct the errors of the quantised weights, so it is merged into those, made
    plain again, and not into the original ones.
    """
    model = load_base(base, method, precision)
    if method == "qlora":
        model = model.dequantize()
    adapted = PeftModel.from_pretrained(on_device(model), str(adapter))
    return adapted.merge_and_unload(safe_merge=True)


def on_device(model: Any) -> Any:
    """Move a model to the accelerator if there is one; quantised models are there already."""
    if torch.cuda.is_available() and not getattr(model, "is_quantized", False):
        return model.to(torch.cuda.current_device())
    return model


def forget_models() -> None:
    """Give back the memory of models that nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
