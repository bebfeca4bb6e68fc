"""The adapters in the model, and which of them each row of a batch goes through.

Low-rank weights of linear layers, with DoRA or without, share a batch (`stacked_lora`); what is more than that is
left to PEFT (`peft_lora`), which answers for one adapter at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from fettle_server.engine.peft_lora import PeftLora
from fettle_server.engine.stacked_lora import StackedLora, stackable_layers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from peft import LoraConfig


class LoraBank:
    """Adapters by name, on one model; only the thread of the steps may use it."""

    def __init__(self, causal: Any) -> None:
        self._causal = causal
        self._stacked = StackedLora(causal.device)
        self._by_peft = PeftLora(causal)

    def add(self, name: str, config: LoraConfig, tensors: Mapping[str, torch.Tensor]) -> Iterator[None]:
        """Put an adapter into the model in parts, between which the model may be run; a name is used once only.

        Raises and leaves the model as it was, also when it is left alone before its end.
        """
        try:
            layers = stackable_layers(self._causal, config, tensors)
            if layers:
                yield from self._stacked.add(name, config, tensors, layers)
            else:
                self._by_peft.add(name, config, tensors)
        except BaseException:
            self.drop(name)
            raise

    def drop(self, name: str) -> None:
        """Take an adapter out, also one that came in by half."""
        if name in self._stacked:
            self._stacked.drop(name)
        else:
            self._by_peft.drop(name)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def mixes(self, name: str) -> bool:
        """Say whether rows of this adapter can share a forward with those of others."""
        return name in self._stacked

    def select(self, names: Sequence[str | None]) -> None:
        """Say which adapter each row of the next forward goes through; None is the base model itself."""
        alone = names[0] if names[0] in self._by_peft else None
        self._by_peft.select(alone)
        self._stacked.select([None] * len(names) if alone else names)
