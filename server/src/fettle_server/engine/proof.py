"""The proof at the start that rows side by side mean to this model what each means alone.

The engine gives the model its own masks, positions and cache. A kind of model that reads something else out of them
would answer wrongly and say nothing; so two rows of different lengths are compared with what transformers computes
for each alone, and a model that fails is refused. It is also the first token of the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from fettle_server.engine.batch_model import NewTokens
from fettle_server.engine.types import BaseRefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fettle_server.engine.batch_model import BatchModel

# The largest difference between log-probabilities of likely tokens that rounding explains; wrong masks make it whole numbers.
_TOLERANCE: Final = {torch.float32: 0.02, torch.float16: 0.25, torch.bfloat16: 0.5}
_LIKELY: Final = 8


def prove_rows(model: BatchModel, text: Sequence[int], max_context: int) -> None:
    """Raise BaseRefusedError unless two rows in one batch, read and continued, come out as each does alone."""
    long = list(text)[: max(2, max_context - 1)] or [0, 0]
    rows = [long, long[: max(1, len(long) // 3)]]
    cache = model.new_cache()
    cache.reserve(len(rows), len(long) + 1, len(rows) * (len(long) + 1))
    last = [row[-1] for row in rows]
    read = [NewTokens(row[:-1] or row, 0, None) for row in rows]
    model.logits(cache, 0, read)
    found = model.logits(
        cache, 0, [NewTokens([token], len(row.tokens), None) for token, row in zip(last, read, strict=True)]
    )
    for row, token, logits in zip(read, last, found, strict=True):
        expected = model.plain_logits([*row.tokens, token])
        _compare(expected.float().log_softmax(-1), logits.float().log_softmax(-1), expected.dtype)


def _compare(expected: torch.Tensor, found: torch.Tensor, dtype: torch.dtype) -> None:
    if bool(expected.isnan().any()):
        raise BaseRefusedError(
            "The base model gives no numbers (NaN). Its weights are damaged, or need a higher dtype."
        )
    likely = expected.topk(min(_LIKELY, len(expected))).indices
    difference = float((expected[likely] - found[likely]).abs().max())
    # Written so that NaN, which is neither more nor less, fails too.
    if not difference <= _TOLERANCE[dtype]:
        raise BaseRefusedError(
            f"Rows of this kind of model cannot share a batch here: beside another row it answers differently (by "
            f"{difference:.3g} in log-probability). Serve it with vLLM."
        )
