"""The loss over the trained tokens, and over nothing else.

The output head is the widest matrix of a small model and its logits the largest tensor of any: computing them only
where something is trained saves time and, with chunks whose logits are made again on the way back, memory. For
families whose head is known to be `lm_head(hidden)` the model's forward is given a second way through; any other
model computes all logits, and the loss is the same.
"""

from __future__ import annotations

import functools
import types
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch
from torch.utils.checkpoint import checkpoint
from transformers.utils import ModelOutput

from fettle_trainer.train.collate import IGNORED

if TYPE_CHECKING:
    from collections.abc import Callable

PLAIN_HEADS: Final = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "phi3", "gemma", "gemma2", "gemma3_text", "olmo2", "smollm3"}
)
"""Model types whose logits are `lm_head(hidden)`, with at most a soft cap on them."""
_CHUNK_BYTES: Final = 256 * 2**20
"""So many bytes of logits are held at once."""


class TokenLoss(Protocol):
    """The loss of each token by its logits (float32, one row per token) and its target."""

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return one loss per token."""


@dataclass
class TrainedTokens(ModelOutput):
    """What one forward pass over a micro-batch gives."""

    loss: torch.Tensor | None = None
    correct: torch.Tensor | None = None
    """Of how many trained tokens the most likely one was right."""
    total: torch.Tensor | None = None
    """How many tokens are trained."""


def cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the negative log-likelihood of each target."""
    return torch.nn.functional.cross_entropy(logits, targets, reduction="none")


def teach_trained_tokens(model: Any, token_loss: TokenLoss = cross_entropy) -> None:
    """Give the causal language model a second way through its forward: called with `targets`, it returns a loss."""
    original: Callable[..., Any] = model.forward
    selective = model.config.model_type in PLAIN_HEADS
    cap: float | None = getattr(model.config, "final_logit_softcapping", None)

    # Callers such as generate() look at the signature to see what the model understands.
    @functools.wraps(type(model).forward)
    def forward(
        self: Any,
        input_ids: torch.Tensor | None = None,
        *,
        targets: torch.Tensor | None = None,
        weights: torch.Tensor | None = None,
        divisor: torch.Tensor | None = None,
        **inputs: Any,
    ) -> Any:
        if targets is None:
            return original(input_ids, **inputs)
        chosen = _chosen(targets)
        if selective:
            inputs = {name: inputs[name] for name in _BODY_INPUTS if inputs.get(name) is not None}
            hidden = self.model(input_ids=input_ids, **inputs, use_cache=False).last_hidden_state[chosen]
            head = lambda part: _capped(self.lm_head(part), cap)  # noqa: E731 - a function of one expression
        else:
            hidden = original(input_ids, **inputs, use_cache=False).logits[chosen]
            head = lambda part: part  # noqa: E731
        return _summed(
            hidden,
            head,
            targets[chosen],
            None if weights is None else weights[chosen],
            divisor,
            token_loss,
            width=self.config.get_text_config().vocab_size,
        )

    model.forward = types.MethodType(forward, model)


_BODY_INPUTS: Final = ("inputs_embeds", "attention_mask", "position_ids")


def _chosen(targets: torch.Tensor) -> torch.Tensor:
    chosen = targets != IGNORED
    if not chosen.any():
        # Every parameter must take part in every backward pass, or the ranks wait for each other's gradients.
        chosen[:, :1] = True
    return chosen


def _capped(logits: torch.Tensor, cap: float | None) -> torch.Tensor:
    return logits if cap is None else torch.tanh(logits / cap) * cap


def _summed(  # noqa: PLR0913, PLR0917 - the pieces of one sum
    hidden: torch.Tensor,
    head: Callable[[torch.Tensor], torch.Tensor],
    targets: torch.Tensor,
    weights: torch.Tensor | None,
    divisor: torch.Tensor | None,
    token_loss: TokenLoss,
    *,
    width: int,
) -> TrainedTokens:
    real = targets != IGNORED
    targets = targets.clamp(min=0)
    scale = real.float() if weights is None else real.float() * weights

    def part(
        hidden: torch.Tensor, targets: torch.Tensor, scale: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        logits = head(hidden).float()
        right = (logits.detach().argmax(-1) == targets) & (scale > 0)
        return (token_loss(logits, targets) * scale).sum(), right.sum()

    size = max(1, _CHUNK_BYTES // (4 * width))
    if len(hidden) <= size or not torch.is_grad_enabled():
        pieces = [part(*piece) for piece in _pieces(size, hidden, targets, scale)]
    else:
        pieces = [
            checkpoint(part, *piece, use_reentrant=False) for piece in _pieces(size, hidden, targets, scale)
        ]
    loss = torch.stack([loss for loss, _ in pieces]).sum()
    total = scale.sum() if divisor is None else divisor
    return TrainedTokens(
        loss=loss / total.clamp(min=1e-9),
        correct=torch.stack([right for _, right in pieces]).sum(),
        total=real.sum(),
    )


def _pieces(size: int, *tensors: torch.Tensor) -> list[tuple[torch.Tensor, ...]]:
    return list(zip(*(torch.split(tensor, size) for tensor in tensors), strict=True))
