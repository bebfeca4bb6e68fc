"""The adapters in the model, and which of them each row of a batch goes through.

PEFT can send the rows of a batch through different adapters; its own way of asking for that walks all modules and
sets hooks anew at each forward. Here the hooks stay, and the modules are touched only when the kind of batch changes:
a batch of one adapter, or of none, runs as PEFT runs it alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, PeftModelForCausalLM, set_peft_model_state_dict
from peft.tuners.lora.layer import LoraLayer
from peft.utils.other import AuxiliaryTrainingWrapper

from fettle_server.engine.lora_parts import WeightsDoNotFitError, modules_of, put_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_BASE = "__base__"
"""PEFT's word for rows without an adapter."""


class LoraBank:
    """Adapters by name, on one model; only the thread of the steps may use it."""

    def __init__(self, causal: Any) -> None:
        self._causal = causal
        self._peft: Any = None
        self._layers: list[Any] = []
        self._wrappers: list[Any] = []
        self._active: tuple[str, ...] = ()
        self._rows: list[str] | None = None

    def add(self, name: str, config: LoraConfig, tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """Put an adapter into the model in parts, between which the model may be run; a name is used once only.

        Raises and leaves the model as it was, also when it is left alone before its end.
        """
        try:
            paths = modules_of(self._causal, config, tensors)
            if paths:
                yield from self._add_in_parts(name, config, tensors, paths)
            else:
                self._add_at_once(name, config, tensors)
            self._collect_modules()
            self._activate((), always=True)
        except BaseException:
            self.drop(name)
            raise

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
        self._activate((), always=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def select(self, names: Sequence[str | None]) -> None:
        """Say which adapter each row of the next forward goes through; None is the base model itself."""
        distinct = set(names)
        if len(distinct) > 1:
            self._activate(())
            self._rows = [name or _BASE for name in names]
            return
        self._rows = None
        self._activate(tuple(name for name in distinct if name))

    def _add_in_parts(
        self, name: str, config: LoraConfig, tensors: Mapping[str, torch.Tensor], paths: list[str]
    ) -> Iterator[None]:
        if self._peft is None:
            # PEFT makes its model with a first adapter, of which one module is enough.
            first = replace(config, target_modules=paths[:1])
            self._peft = PeftModelForCausalLM(self._causal, first, adapter_name=name, low_cpu_mem_usage=True)
            self._causal.get_submodule(paths[0]).set_adapter([], inference_mode=True)
        yield from put_in(self._peft.base_model, name, config, tensors, paths)

    def _add_at_once(self, name: str, config: LoraConfig, tensors: Mapping[str, torch.Tensor]) -> None:
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
        """Find the modules that adapters live in; each gets its hook once."""
        known = set(map(id, self._layers))
        self._layers = [module for module in self._causal.modules() if isinstance(module, LoraLayer)]
        self._wrappers = [
            module for module in self._causal.modules() if isinstance(module, AuxiliaryTrainingWrapper)
        ]
        for layer in self._layers:
            if id(layer) not in known:
                layer.register_forward_pre_hook(self._name_rows, with_kwargs=True)

    def _name_rows(self, _: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        return None if self._rows is None else (args, {**kwargs, "adapter_names": self._rows})

    def _activate(self, names: tuple[str, ...], *, always: bool = False) -> None:
        if names == self._active and not always:
            return
        for layer in self._layers:
            layer.set_adapter(list(names), inference_mode=True)
        for wrapper in self._wrappers:
            own = [name for name in names if wrapper.check_set_adapter([name])]
            wrapper.set_adapter(own, inference_mode=True)
        self._active = names
