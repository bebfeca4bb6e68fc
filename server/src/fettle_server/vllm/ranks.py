"""The ranks that vLLM can be started for."""

from __future__ import annotations

from typing import Final

__all__ = ["RANK_STEPS", "rank_step"]

RANK_STEPS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""All values that `--max-lora-rank` takes."""


def rank_step(rank: int) -> int | None:
    """Return the least value of `--max-lora-rank` that holds a rank; None when vLLM has none."""
    return next((step for step in RANK_STEPS if step >= rank), None)
