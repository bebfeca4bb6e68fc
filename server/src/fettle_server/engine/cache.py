"""Keys and values of all rows of a batch, each row from the left of its own slot.

transformers' own dynamic cache pads rows on the left and copies everything for each token. Here a row's tokens stay
where they were written: joining and leaving touch one slot, and masks say how far each row reaches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

if TYPE_CHECKING:
    from collections.abc import Sequence

_STEP: Final = 64
"""Slots grow by whole steps of so many tokens, and by a half at least: growing copies."""


class Window:
    """Which slots the next forward writes to, and where; every layer asks, so all is computed once."""

    def __init__(
        self, first: int, starts: Sequence[int], counts: Sequence[int], device: torch.device
    ) -> None:
        self.slots = slice(first, first + len(starts))
        self.starts = starts
        """How many tokens each row has already."""
        self.counts = counts
        """How many are new; a row with fewer than others is padded on the right, and its padding is not kept."""
        self.new = max(counts)
        """How many the row with most of them has."""
        self.width = max(start + count for start, count in zip(starts, counts, strict=True))
        """How far the longest row reaches afterwards."""
        self.rows = torch.arange(len(starts), device=device)
        begun, made = torch.tensor([starts, counts], device=device)[:, :, None]
        self.last = made - 1
        """The number of each row's last new token [row, 1]."""
        self.places = begun + torch.arange(self.new, device=device).minimum(self.last)
        """The place of each new token in its row; padding stands where the row's last token stands."""


class RowCache(Cache):  # type: ignore[misc]  # transformers is Any here
    """One slot per row, in every layer."""

    def __init__(self, layers: int) -> None:
        self.window: Window
        """Of the next forward."""
        self.slots = 0
        self.capacity = 0
        super().__init__(layers=[_Layer(self) for _ in range(layers)])

    def reserve(self, slots: int, tokens: int, most_cells: int) -> None:
        """Make room for so many slots of so many tokens; beyond that only as far as all fit into `most_cells`."""
        if slots <= self.slots and tokens <= self.capacity:
            return
        self.slots = max(self.slots, slots)
        generous = _rounded_up(
            max(tokens, self.capacity * 3 // 2 if tokens > self.capacity else self.capacity)
        )
        self.capacity = max(tokens, min(generous, most_cells // self.slots))
        for layer in self.layers:
            layer.grow()

    def rearrange(self, origins: Sequence[int]) -> None:
        """Let slot i hold what slot origins[i] held."""
        moved = [(slot, origin) for slot, origin in enumerate(origins) if slot != origin]
        if moved:
            for layer in self.layers:
                layer.rearrange([slot for slot, _ in moved], [origin for _, origin in moved])

    def wipe(self, slot: int) -> None:
        """Forget a slot whose row went wrong: masked numbers do no harm, masked NaNs do."""
        for layer in self.layers:
            layer.wipe(slot)

    def release(self) -> None:
        """Give the memory back; no row is left."""
        self.slots = self.capacity = 0
        for layer in self.layers:
            layer.reset()


class _Layer(CacheLayerMixin):  # type: ignore[misc]  # transformers is Any here
    """The slots of one layer: keys and values [slot, head, token, dimension]."""

    is_sliding = False

    def __init__(self, cache: RowCache) -> None:
        super().__init__()
        self._cache = cache

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.keys = self._empty_like(key_states)
        self.values = self._empty_like(value_states)
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        window = self._cache.window
        keys, values = self.keys[window.slots], self.values[window.slots]
        _write(keys, key_states, window)
        _write(values, value_states, window)
        return keys[:, :, : window.width], values[:, :, : window.width]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:  # noqa: ARG002 - the interface
        return self._cache.window.width, 0

    def get_seq_length(self) -> int:
        return self._cache.window.width

    def get_max_length(self) -> int:
        return -1

    def grow(self) -> None:
        if self.is_initialized:
            self.keys, self.values = self._grown(self.keys), self._grown(self.values)

    def rearrange(self, slots: list[int], origins: list[int]) -> None:
        if self.is_initialized:
            self.keys[slots] = self.keys[origins]
            self.values[slots] = self.values[origins]

    def wipe(self, slot: int) -> None:
        if self.is_initialized:
            self.keys[slot] = 0
            self.values[slot] = 0

    def reset(self) -> None:
        self.keys = self.values = None
        self.is_initialized = False

    def _grown(self, old: torch.Tensor) -> torch.Tensor:
        new = self._empty_like(old)
        kept = min(old.shape[2], new.shape[2])
        new[: old.shape[0], :, :kept] = old[:, :, :kept]
        return new

    def _empty_like(self, states: torch.Tensor) -> torch.Tensor:
        # Zeros, not whatever lies there: a NaN would come through the mask.
        _, heads, _, dimension = states.shape
        return states.new_zeros((self._cache.slots, heads, self._cache.capacity, dimension))


def _write(kept: torch.Tensor, new: torch.Tensor, window: Window) -> None:
    if window.new == 1:
        kept[window.rows, :, window.places[:, 0]] = new[:, :, 0]
        return
    for row, (start, count) in enumerate(zip(window.starts, window.counts, strict=True)):
        kept[row, :, start : start + count] = new[row, :, :count]


def _rounded_up(tokens: int) -> int:
    return -(-tokens // _STEP) * _STEP
