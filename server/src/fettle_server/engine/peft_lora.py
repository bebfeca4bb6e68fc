"""Adapters that are more than products of linear layers, as PEFT serves them: one of them at a time.

Layers of the model that are saved whole, adapters of embeddings, biases of low-rank weights: what PEFT trains, PEFT computes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peft import LoraConfig, PeftModelForCausalLM, set_peft_model_state_dict
from peft.tuners.lora.layer import LoraLayer
from peft.utils.other import AuxiliaryTrainingWrapper

from fettle_server.engine.stacked_lora import WeightsDoNotFitError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch


class PeftLora:
    """Adapters by name, on one model; only the thread of the steps may use it."""

    def __init__(self, causal: Any) -> None:
        self._causal = causal
        self._peft: Any = None
        self._layers: list[Any] = []
        self._wrappers: list[Any] = []
        self._active: str | None = None

    def __contains__(self, name: str | None) -> bool:
        return self._peft is not None and name in self._peft.peft_config

    def add(self, name: str, config: LoraConfig, tensors: Mapping[str, torch.Tensor]) -> None:
        """Put an adapter into the model; if this raises, it has to be dropped."""
        # On the meta device PEFT skips the random initialisation, most of the time that adding takes. Magnitudes of
        # DoRA and modules saved whole are derived from the base's weights, so they need real ones.
        empty = not (config.use_dora or config.modules_to_save)
        if self._peft is None:
            self._peft = PeftModelForCausalLM(
                self._causal, config, adapter_name=name, low_cpu_mem_usage=empty
            )
        else:
            self._peft.add_adapter(name, config, low_cpu_mem_usage=empty)
        result = set_peft_model_state_dict(
            self._peft, dict(tensors), adapter_name=name, low_cpu_mem_usage=empty
        )
        missing = [key for key in result.missing_keys if name in key.split(".")]
        if missing or result.unexpected_keys:
            raise WeightsDoNotFitError((missing or result.unexpected_keys)[0])
        self._peft.eval().requires_grad_(False)
        self._collect_modules()

    def drop(self, name: str) -> None:
        """Take an adapter out, also one that came in by half, and give its memory back."""
        others = [] if self._peft is None else [other for other in self._peft.peft_config if other != name]
        if others:
            self._forget(name)
            # PEFT wants an active adapter at all times; with none it could not take in the next one.
            self._peft.base_model.set_adapter(others[0], inference_mode=True)
        else:
            self._unwrap()
            self._peft = None
        self._collect_modules()

    def select(self, name: str | None) -> None:
        """Say which adapter the next forward goes through; None is none of them."""
        if name != self._active:
            self._activate(name)

    def _forget(self, name: str) -> None:
        # PEFT's own delete_adapter refuses a name that it has forgotten after half an addition.
        self._peft.peft_config.pop(name, None)
        for module in self._causal.modules():
            if isinstance(module, LoraLayer):
                module.set_adapter([], inference_mode=True)
                module.delete_adapter(name)
            elif isinstance(module, AuxiliaryTrainingWrapper):
                module.set_adapter([], inference_mode=True)
                module.delete_adapter(name, None)

    def _unwrap(self) -> None:
        """Put the base model's own modules back where PEFT has wrapped them."""
        for path, module in reversed(tuple(self._causal.named_modules())):
            if isinstance(module, LoraLayer):
                self._causal.set_submodule(path, module.get_base_layer())
            elif isinstance(module, AuxiliaryTrainingWrapper):
                self._causal.set_submodule(path, module.original_module)
        # PEFT would take the configurations it finds here for adapters that are still there.
        vars(self._causal).pop("peft_config", None)

    def _collect_modules(self) -> None:
        """Find the modules that adapters live in; PEFT has made one of them active."""
        modules = tuple(self._causal.modules())
        self._layers = [module for module in modules if isinstance(module, LoraLayer)]
        self._wrappers = [module for module in modules if isinstance(module, AuxiliaryTrainingWrapper)]
        self._activate(None)

    def _activate(self, name: str | None) -> None:
        names = [name] if name else []
        for layer in self._layers:
            layer.set_adapter(names, inference_mode=True)
        for wrapper in self._wrappers:
            own = [name for name in names if wrapper.check_set_adapter([name])]
            wrapper.set_adapter(own, inference_mode=True)
        self._active = name
