"""The training of the base model from nothing: plain torch, one process, minutes."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from fettle_trainer.base.corpus import conversations
from fettle_trainer.base.rows import RowWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transformers import PreTrainedTokenizerFast

    from fettle_trainer.base.recipe import Recipe
    from fettle_trainer.base.rows import Row

_WARMUP_SHARE: Final = 0.05
_FLOOR: Final = 0.05
"""What is left of the learning rate at the end."""


def pretrain(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, on_step: Callable[[int, float], None]
) -> LlamaForCausalLM:
    """Return a trained model; `on_step` is told the step's number and its loss."""
    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM(_config(recipe, tokenizer)).train()
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.05, fused=True
    )
    batches = _batches(recipe, tokenizer)
    for step in range(recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * schedule(step, recipe.steps)
        loss = model(**next(batches), use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        on_step(step + 1, loss.item())
    model.generation_config = GenerationConfig(
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
        max_new_tokens=64,
    )
    return model.eval()


def schedule(step: int, steps: int) -> float:
    """Return the share of the learning rate: a short rise, then half a cosine down to a floor."""
    rise = min(1.0, (step + 1) / max(1.0, _WARMUP_SHARE * steps))
    return rise * (_FLOOR + (1 - _FLOOR) * 0.5 * (1 + math.cos(math.pi * step / steps)))


def _config(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=recipe.vocabulary,
        hidden_size=recipe.hidden_size,
        intermediate_size=recipe.intermediate_size,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.max_positions,
        # Wider than usual: so small a model learns to copy from the prompt much sooner.
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _batches(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> Iterator[dict[str, torch.Tensor]]:
    # An endless text: no conversation is read twice unless the dice make it twice.
    text = itertools.chain.from_iterable(
        conversations(recipe.seed + block, 1024) for block in itertools.count(1)
    )
    endless = RowWriter(tokenizer, recipe.row_tokens).rows(text)
    while True:
        yield _batch(list(itertools.islice(endless, recipe.rows_per_step)))


def _batch(batch: list[Row]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor([getattr(row, name) for row in batch]) for name in batch[0]._fields}
