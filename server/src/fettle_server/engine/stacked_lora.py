"""Low-rank adapters of linear layers, stacked: two matrix products serve all rows of a batch, whatever their adapters.

In each layer the ranks of all adapters lie below one another in one pair of matrices. A row goes through all ranks that
its batch needs, and between the two products, where it is only as long as these ranks together, those of other rows'
adapters are set to zero. So a step costs the same with one adapter in the batch as with many.

DoRA also changes how strong each feature of the layer is. Once an adapter is in place that is a constant, its gain: part
of it is multiplied into the weights, and the rest is added by row.
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

_TENSOR: Final = re.compile(
    r"base_model\.model\.(.+)\.(?:lora_[AB]\.weight|lora_magnitude_vector(?:\.weight)?)"
)


class WeightsDoNotFitError(Exception):
    """The adapter's weights are not those that the base model has room for."""


def stackable_layers(
    causal: Any, config: LoraConfig, tensors: Mapping[str, torch.Tensor]
) -> dict[str, Linear]:
    """Return the layers that an adapter changes, by path; none if it is more than that for each of them."""
    if config.modules_to_save or config.ensure_weight_tying:
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
    # PEFT may have wrapped the layer, for an adapter of another kind; the wrapper calls what it has wrapped.
    for wrapped in ("base_layer", "original_module"):
        module = getattr(module, wrapped, module)
    return module if isinstance(module, torch.nn.Linear) else None


class StackedLora:
    """Adapters by name; only the thread of the steps may use it."""

    def __init__(self, device: torch.device) -> None:
        self._places: dict[str, _Place] = {}
        self._stacks: dict[Linear, _Stack] = {}
        self._choice = _Choice(device)

    def __contains__(self, name: str | None) -> bool:
        return name in self._places

    def add(
        self, name: str, config: LoraConfig, tensors: Mapping[str, torch.Tensor], layers: Mapping[str, Linear]
    ) -> Iterator[None]:
        """Put an adapter in, one layer at a time; the model may be run whenever this stops for a moment."""
        parts = {layer: _Part.of(path, layer, config, tensors) for path, layer in layers.items()}
        place = self._free_place(max(part.rank for part in parts.values()), has_gains=config.use_dora)
        self._places[name] = place
        for layer in (*parts, *(layer for layer in self._stacks if layer not in parts)):
            if layer not in self._stacks:
                self._stacks[layer] = _Stack(layer, self._choice)
            self._stacks[layer].make_room(self._places.values())
            self._stacks[layer].put(place, parts.get(layer))
            yield

    def drop(self, name: str) -> None:
        """Take an adapter out, also one that came in by half. The next one gets its place; the last gives back all."""
        self._places.pop(name, None)
        if not self._places:
            for stack in self._stacks.values():
                stack.remove()
            self._stacks.clear()

    def select(self, names: Sequence[str | None]) -> None:
        """Say which adapter each row of the next forward goes through; None is the base model itself."""
        self._choice.become([self._places[name] if name else _BASE for name in names])

    def _free_place(self, rank: int, *, has_gains: bool) -> _Place:
        taken = {place.gain for place in self._places.values()}
        gain = min(set(range(1, len(taken) + 2)) - taken) if has_gains else _NO_GAIN
        return _Place(_first_gap((place.ranks for place in self._places.values()), rank), gain)


class _Place(NamedTuple):
    """Where an adapter lies, in every stack alike."""

    ranks: range
    gain: int


_NO_GAIN: Final = 0
_BASE: Final = _Place(range(0), _NO_GAIN)


class _Part(NamedTuple):
    """What an adapter is to one layer."""

    down: torch.Tensor
    """[rank, features in]"""
    up: torch.Tensor
    """[features out, rank]"""
    scale: float
    magnitude: torch.Tensor | None
    """DoRA's length of each feature out."""

    @classmethod
    def of(cls, path: str, layer: Linear, config: LoraConfig, tensors: Mapping[str, torch.Tensor]) -> Self:
        """Find it among an adapter's tensors; raise WeightsDoNotFitError if it is not what the layer has room for."""
        rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern.keys(), path), config.r)
        alpha = config.alpha_pattern.get(
            get_pattern_key(config.alpha_pattern.keys(), path), config.lora_alpha
        )
        scale = alpha / math.sqrt(rank) if config.use_rslora else alpha / rank

        def tensor(*names: str, shape: tuple[int, ...]) -> torch.Tensor:
            keys = [f"base_model.model.{path}.{name}" for name in names]
            found = next((tensors[key] for key in keys if key in tensors), None)
            if found is None:
                raise WeightsDoNotFitError(f"{keys[0]} is missing")
            if found.shape != shape:
                raise WeightsDoNotFitError(f"{keys[0]} is {tuple(found.shape)} and not {shape}")
            return found

        down = tensor("lora_A.weight", shape=(rank, layer.in_features))
        up = tensor("lora_B.weight", shape=(layer.out_features, rank))
        if not config.use_dora:
            return cls(down, up, scale, None)
        vector = "lora_magnitude_vector"
        magnitude = tensor(vector, f"{vector}.weight", shape=(layer.out_features,))
        return cls(down, up, scale, magnitude)

    @property
    def rank(self) -> int:
        """How many products of two vectors it is the sum of."""
        return len(self.down)

    def gain(self, weight: torch.Tensor) -> torch.Tensor:
        """Return how much stronger than without it each feature out is, in a layer with these weights."""
        if self.magnitude is None:
            return weight.new_ones(len(self.up), dtype=torch.float32)
        changed = weight.to(torch.float32) + self.scale * (self.up @ self.down)
        return self.magnitude / changed.norm(dim=1)


@dataclass(slots=True)
class _Choice:
    """What all stacks are to compute."""

    device: torch.device
    of_rows: Sequence[_Place] = ()
    """Where the adapter of each row of the batch lies."""
    needed: slice | None = None
    """All their ranks, and what lies between; None if no row has an adapter."""
    foreign: torch.Tensor | None = None
    """For each row, which of the needed ranks are not its own [row, 1, rank]; None if all are each row's own."""
    gains: torch.Tensor | None = None
    """The gain of each row; None if no row has one."""

    def become(self, of_rows: Sequence[_Place]) -> None:
        if of_rows == self.of_rows:
            return
        self.of_rows, self.needed, self.foreign, self.gains = of_rows, None, None, None
        used = set(of_rows) - {_BASE}
        if not used:
            return
        first, last = min(place.ranks.start for place in used), max(place.ranks.stop for place in used)
        self.needed = slice(first, last)
        if len(set(of_rows)) > 1:
            starts, stops = (
                self._tensor(bounds)[:, None, None]
                for bounds in zip(*((ranks.start, ranks.stop) for ranks, _ in of_rows), strict=True)
            )
            every = torch.arange(first, last, device=self.device)
            self.foreign = (every < starts) | (every >= stops)
        if any(place.gain != _NO_GAIN for place in used):
            self.gains = self._tensor([place.gain for place in of_rows])

    def _tensor(self, numbers: Sequence[int]) -> torch.Tensor:
        return torch.tensor(numbers, device=self.device)


class _Stack:
    """The adapters of one layer; called after each of the layer's forwards."""

    def __init__(self, layer: Linear, choice: _Choice) -> None:
        self._down = layer.weight.new_zeros((0, layer.in_features), dtype=torch.float32)
        self._up = layer.weight.new_zeros((0, layer.out_features), dtype=torch.float32)
        self._more = layer.weight.new_zeros((0, layer.out_features), dtype=torch.float32)
        """How much more than one each gain is."""
        self._weight = layer.weight
        self._choice = choice
        self.remove = layer.register_forward_hook(self).remove

    def __deepcopy__(self, _: Any) -> Self:
        # PEFT copies a layer that an adapter replaces as a whole; the other adapters' weights need no copy.
        return self

    def make_room(self, places: Iterable[_Place]) -> None:
        """Become high enough for all these places."""
        height = max(place.ranks.stop for place in places)
        self._down, self._up = _grown(self._down, height), _grown(self._up, height)
        gains = max(place.gain for place in places)
        if gains != _NO_GAIN:
            self._more = _grown(self._more, gains + 1)

    def put(self, place: _Place, part: _Part | None) -> None:
        """Let a place hold what its adapter is to this layer, or nothing."""
        for half in (self._down, self._up):
            half[place.ranks.start : place.ranks.stop] = 0
        if place.gain != _NO_GAIN:
            self._more[place.gain] = 0
        if part is None:
            return
        own = slice(place.ranks.start, place.ranks.start + part.rank)
        gain = part.gain(self._weight)
        self._down[own], self._up[own] = part.down, part.up.T * part.scale * gain
        if place.gain != _NO_GAIN:
            self._more[place.gain] = gain - 1

    def __call__(
        self, layer: Linear, given: tuple[torch.Tensor], result: torch.Tensor
    ) -> torch.Tensor | None:
        needed, foreign, gains = self._choice.needed, self._choice.foreign, self._choice.gains
        if needed is None:
            return None
        low = torch.nn.functional.linear(given[0].to(torch.float32), self._down[needed])
        if foreign is not None:
            low.masked_fill_(foreign, 0)
        change = low @ self._up[needed]
        if gains is not None:
            change += self._more[gains][:, None] * (result if layer.bias is None else result - layer.bias)
        return result.add_(change)


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
