"""Low-rank adapters of linear layers, stacked: two matrix products serve all rows of a batch, whatever their adapters.

In each layer the ranks of all adapters lie below one another in one pair of matrices. A row goes through all ranks that
its batch needs, and between the two products, where it is only as long as these ranks together, those of other rows'
adapters are set to zero. So a step costs the same with one adapter in the batch as with many.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

import torch
from peft.utils.other import get_pattern_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from peft import LoraConfig
    from torch.nn import Linear

__all__ = ["StackedLora", "WeightsDoNotFitError", "stackable_layers"]

_TENSOR: Final = re.compile(r"base_model\.model\.(.+)\.lora_[AB]\.weight")
_BASE: Final = range(0)


class WeightsDoNotFitError(Exception):
    """The adapter's weights are not those that the base model has room for."""


def stackable_layers(
    causal: Any, config: LoraConfig, tensors: Mapping[str, torch.Tensor]
) -> dict[str, Linear]:
    """Return the layers that an adapter changes, by path; none if it is more than two products for each of them."""
    if config.use_dora or config.modules_to_save or config.ensure_weight_tying:
        return {}
    found = {match.group(1) if (match := _TENSOR.fullmatch(name)) else None for name in tensors}
    layers = {path: _linear(causal, path) for path in found if path}
    linear = {path: layer for path, layer in layers.items() if layer is not None}
    return linear if len(linear) == len(found) else {}


def _linear(causal: Any, path: str) -> Linear | None:
    try:
        module = causal.get_submodule(path)
    except AttributeError:
        return None
    # PEFT may have wrapped the layer, for an adapter of another kind; it calls what it wrapped.
    module = getattr(module, "base_layer", module)
    return module if isinstance(module, torch.nn.Linear) else None


class StackedLora:
    """Adapters by name; only the thread of the steps may use it."""

    def __init__(self, device: torch.device) -> None:
        self._ranks: dict[str, range] = {}
        """Where each adapter lies, in every stack alike."""
        self._stacks: dict[Linear, _Stack] = {}
        self._choice = _Choice(device)

    def __contains__(self, name: str | None) -> bool:
        return name in self._ranks

    def add(
        self, name: str, config: LoraConfig, tensors: Mapping[str, torch.Tensor], layers: Mapping[str, Linear]
    ) -> Iterator[None]:
        """Put an adapter in, one layer at a time; the model may be run whenever this stops for a moment."""
        parts = {layer: _Part.of(path, layer, config, tensors) for path, layer in layers.items()}
        ranks = _first_gap(self._ranks.values(), max(part.rank for part in parts.values()))
        self._ranks[name] = ranks
        height = max(taken.stop for taken in self._ranks.values())
        for layer in (*parts, *(layer for layer in self._stacks if layer not in parts)):
            if layer not in self._stacks:
                self._stacks[layer] = _Stack(layer, self._choice)
            self._stacks[layer].put(ranks, parts.get(layer), height)
            yield

    def drop(self, name: str) -> None:
        """Take an adapter out, also one that came in by half. The next one gets its place; the last gives back all."""
        self._ranks.pop(name, None)
        if not self._ranks:
            for stack in self._stacks.values():
                stack.remove()
            self._stacks.clear()

    def select(self, names: Sequence[str | None]) -> None:
        """Say which adapter each row of the next forward goes through; None is the base model itself."""
        self._choice.become([self._ranks[name] if name else _BASE for name in names])


class _Part(NamedTuple):
    """What an adapter is to one layer."""

    down: torch.Tensor
    """[rank, features in]"""
    up: torch.Tensor
    """[features out, rank]"""
    scale: float

    @classmethod
    def of(cls, path: str, layer: Linear, config: LoraConfig, tensors: Mapping[str, torch.Tensor]) -> Self:
        """Find it among an adapter's tensors; raise WeightsDoNotFitError if it is not what the layer has room for."""
        rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern.keys(), path), config.r)
        alpha = config.alpha_pattern.get(
            get_pattern_key(config.alpha_pattern.keys(), path), config.lora_alpha
        )
        shapes = {"lora_A": (rank, layer.in_features), "lora_B": (layer.out_features, rank)}
        for half, shape in shapes.items():
            key = f"base_model.model.{path}.{half}.weight"
            if key not in tensors:
                raise WeightsDoNotFitError(f"{key} is missing")
            if tensors[key].shape != shape:
                raise WeightsDoNotFitError(f"{key} is {tuple(tensors[key].shape)} and not {shape}")
        down, up = (tensors[f"base_model.model.{path}.{half}.weight"] for half in shapes)
        return cls(down, up, alpha / math.sqrt(rank) if config.use_rslora else alpha / rank)

    @property
    def rank(self) -> int:
        """How many products of two vectors it is the sum of."""
        return len(self.down)


@dataclass(slots=True)
class _Choice:
    """What all stacks are to compute."""

    device: torch.device
    of_rows: Sequence[range] = ()
    """The ranks that each row of the batch goes through."""
    needed: slice | None = None
    """All of these, and what lies between; None if no row goes through any."""
    foreign: torch.Tensor | None = None
    """For each row, which of the needed ranks are not its own [row, 1, rank]; None if all are each row's own."""

    def become(self, of_rows: Sequence[range]) -> None:
        if of_rows == self.of_rows:
            return
        self.of_rows, self.needed, self.foreign = of_rows, None, None
        used = set(of_rows) - {_BASE}
        if not used:
            return
        first, last = min(ranks.start for ranks in used), max(ranks.stop for ranks in used)
        self.needed = slice(first, last)
        if len(set(of_rows)) > 1:
            starts, stops = (
                torch.tensor(bounds, device=self.device)[:, None, None]
                for bounds in zip(*((ranks.start, ranks.stop) for ranks in of_rows), strict=True)
            )
            every = torch.arange(first, last, device=self.device)
            self.foreign = (every < starts) | (every >= stops)


class _Stack:
    """The adapters of one layer; called after each of the layer's forwards."""

    def __init__(self, layer: Linear, choice: _Choice) -> None:
        self._down = layer.weight.new_zeros((0, layer.in_features), dtype=torch.float32)
        self._up = layer.weight.new_zeros((0, layer.out_features), dtype=torch.float32)
        self._choice = choice
        self.remove = layer.register_forward_hook(self).remove

    def __deepcopy__(self, _: Any) -> Self:
        # PEFT copies a layer that an adapter replaces as a whole; the other adapters' weights need no copy.
        return self

    def put(self, ranks: range, part: _Part | None, height: int) -> None:
        """Make the stack so high, and let an adapter's ranks be what the adapter is to this layer, or nothing."""
        self._down, self._up = _grown(self._down, height), _grown(self._up, height)
        for half in (self._down, self._up):
            half[ranks.start : ranks.stop] = 0
        if part is not None:
            own = slice(ranks.start, ranks.start + part.rank)
            self._down[own], self._up[own] = part.down, part.up.T * part.scale

    def __call__(self, _: Linear, given: tuple[torch.Tensor], result: torch.Tensor) -> torch.Tensor | None:
        needed, foreign = self._choice.needed, self._choice.foreign
        if needed is None:
            return None
        low = torch.nn.functional.linear(given[0].to(torch.float32), self._down[needed])
        if foreign is not None:
            low.masked_fill_(foreign, 0)
        return result.add_(low @ self._up[needed])


def _grown(stack: torch.Tensor, height: int) -> torch.Tensor:
    missing = height - len(stack)
    return torch.cat([stack, stack.new_zeros((missing, stack.shape[1]))]) if missing > 0 else stack


def _first_gap(taken: Iterable[range], size: int) -> range:
    """Return the first place of that size that is free."""
    start = 0
    for ranks in sorted(taken, key=lambda ranks: ranks.start):
        if ranks.start - start >= size:
            break
        start = max(start, ranks.stop)
    return range(start, start + size)
