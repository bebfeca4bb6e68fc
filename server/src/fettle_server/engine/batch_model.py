"""One forward of many rows, each with its own past, its own new tokens and its own adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from fettle_server.engine.cache import RowCache, Window
from fettle_server.engine.lora_bank import LoraBank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fettle_server.engine.base_model import BaseModel


class NewTokens(NamedTuple):
    """What one row brings to a forward."""

    tokens: Sequence[int]
    start: int
    """How many tokens of the row the cache has already."""
    adapter: str | None


class BatchModel:
    """The base model with its adapters, as rows see it."""

    def __init__(self, base: BaseModel) -> None:
        self.bank = LoraBank(base.model)
        self._base = base

    @property
    def device(self) -> Any:
        """Where the model computes."""
        return self._base.device

    def new_cache(self) -> RowCache:
        """Return an empty cache for this model."""
        return RowCache(self._base.layers)

    def logits(self, cache: RowCache, first: int, rows: Sequence[NewTokens]) -> torch.Tensor:
        """Return what each row's next token may be; the rows lie in the cache from slot `first` on."""
        device = self._base.device
        window = Window(first, [row.start for row in rows], [len(row.tokens) for row in rows], device)
        cache.window = window
        self.bank.select([row.adapter for row in rows])
        with torch.no_grad():
            found = self._base.model(
                input_ids=_padded(rows, window.new).to(device),
                attention_mask=self._base.attention.masks(window, self._base.model.dtype),
                position_ids=window.places,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=window.last,
            )
        logits: torch.Tensor = found.logits[:, 0]
        return logits

    def first_logits(self, tokens: Sequence[int], adapter: str | None) -> torch.Tensor:
        """Return what may follow a short text, with no other row beside it."""
        cache = self.new_cache()
        cache.reserve(1, len(tokens), len(tokens))
        return self.logits(cache, 0, [NewTokens(tokens, 0, adapter)])[0]

    def plain_logits(self, tokens: Sequence[int]) -> torch.Tensor:
        """Return what may follow a text as transformers computes it, without cache and masks of ours."""
        self.bank.select([None])
        ids: Any = torch.tensor([list(tokens)], device=self._base.device)
        with torch.no_grad():
            logits: torch.Tensor = self._base.model(input_ids=ids, use_cache=False).logits[0, -1]
        return logits


def _padded(rows: Sequence[NewTokens], width: int) -> torch.Tensor:
    # What pads does not matter: it is masked, and its keys and values are not kept.
    return torch.tensor([[*row.tokens, *[0] * (width - len(row.tokens))] for row in rows])
