"""Answers as the model gives them: greedy, with a cache, until a token that ends an answer.

The settings in a model's folder (sampling, penalties) make answers vary from call to call; here they are laid aside,
so that two models, or one model twice, are compared on nothing but their weights.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class GreedySettings:
    """How answers are generated."""

    stop_ids: tuple[int, ...]
    """Tokens that end an answer."""
    pad_id: int
    max_new_tokens: int
    batch_rows: int = 8
    batch_tokens: int = 16_384
    """Cells of a batch, padding and the answers to come included."""


def stop_ids(
    model: Any, tokenizer: PreTrainedTokenizerBase, last_trained: Sequence[int] = ()
) -> tuple[int, ...]:
    """Return the tokens that end an answer.

    They are what the model's folder says (EOS, the end of a turn) and what the data ends its answers with:
    `last_trained` are the last trained tokens of some rows, of which special ones count.
    """
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = set(configured if isinstance(configured, list) else [configured])
    special = set(tokenizer.added_tokens_decoder)
    ids |= {tokenizer.eos_token_id} | (set(last_trained) & special)
    return tuple(sorted(token for token in ids if token is not None))


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return a token to pad with; which one does not matter, because it is masked."""
    found = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return int(found) if found is not None else 0


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    settings: GreedySettings,
    check: Callable[[], None] = lambda: None,
) -> list[list[int]]:
    """Return the tokens of each answer without the one that ends it.

    `check` is called for every token; it may raise to stop.
    """
    answers: dict[int, list[int]] = {}
    with plain(model, settings) as causal:
        for batch in _batches([len(prompt) for prompt in prompts], settings):
            ids, mask = _left_padded([prompts[number] for number in batch], settings.pad_id)
            whole = causal.generate(
                input_ids=ids.to(causal.device),
                attention_mask=mask.to(causal.device),
                max_new_tokens=settings.max_new_tokens,
                do_sample=False,
                use_cache=True,
                stopping_criteria=StoppingCriteriaList([_Check(check)]),
            )
            for number, row in zip(batch, whole[:, ids.shape[1] :].tolist(), strict=True):
                answers[number] = _until(row, settings.stop_ids)
    return [answers[number] for number in range(len(prompts))]


@contextmanager
def plain(model: Any, settings: GreedySettings) -> Iterator[Any]:
    """Give the causal language model itself, in evaluation, as transformers made it.

    An adapter stays inside it. A forward that training has put in place of its own is laid aside: it takes other
    arguments, by which `generate` decides what it may pass.
    """
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    forward = vars(causal).pop("forward", None)
    was_training, own = causal.training, causal.generation_config
    causal.generation_config = GenerationConfig(
        eos_token_id=list(settings.stop_ids) or None, pad_token_id=settings.pad_id
    )
    causal.eval()
    try:
        with torch.no_grad(), in_16_bits(causal):
            yield causal
    finally:
        causal.train(was_training)
        causal.generation_config = own
        if forward is not None:
            causal.forward = forward


def in_16_bits(causal: Any) -> AbstractContextManager[Any]:
    """Let flash-attention see 16 bits where the weights have 32, as they have it while all of them are trained."""
    if causal.config._attn_implementation != "flash_attention_2" or causal.dtype != torch.float32:  # noqa: SLF001 - there is no public way to ask
        return nullcontext()
    half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    autocast: AbstractContextManager[Any] = torch.autocast(causal.device.type, dtype=half)
    return autocast


def _batches(lengths: Sequence[int], settings: GreedySettings) -> Iterator[list[int]]:
    """Yield row numbers, the longest rows first, so that what fits once fits always."""
    batch: list[int] = []
    width = 0
    for number in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        if not batch:
            width = lengths[number] + settings.max_new_tokens
        elif len(batch) == settings.batch_rows or (len(batch) + 1) * width > settings.batch_tokens:
            yield batch
            batch = []
            width = lengths[number] + settings.max_new_tokens
        batch.append(number)
    if batch:
        yield batch


def _left_padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, width - len(row) :] = torch.tensor(row)
        mask[number, width - len(row) :] = 1
    return ids, mask


def _until(tokens: list[int], stops: tuple[int, ...]) -> list[int]:
    end = next((place for place, token in enumerate(tokens) if token in stops), len(tokens))
    return tokens[:end]


class _Check(StoppingCriteria):
    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:  # noqa: ARG002 - the interface
        self._check()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)
