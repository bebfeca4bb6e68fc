"""What the engine is told at its start."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

Dtype = Literal["auto", "float32", "bfloat16", "float16"]
Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """One base model, and the bounds within which it is served."""

    base: Path
    """A model's folder, or the release folder of a whole model."""
    adapters_root: Path
    """Where adapters' release folders lie; nothing outside of it is read."""
    base_revision: str = "base"
    """The revision that names the base model itself."""
    max_context: int | None = None
    """Tokens of a prompt and its answer together; None takes what the model was made for, if it fits the cache."""
    max_running: int = 32
    """Requests that are generated in one batch."""
    max_waiting: int = 128
    max_adapters: int = 16
    max_lora_rank: int = 64
    dtype: Dtype = "auto"
    """`auto` computes in what the weights are saved in."""
    device: Device = "auto"
    threads: int | None = None
    """CPU threads of one forward; None takes as many as are worth it, of those there are."""
    cache_tokens: int | None = None
    """Tokens that the cache may hold for all requests together; None derives it from the memory that is free."""
    prefill_tokens: int = 512
    """The most tokens of new prompts between two steps of running answers: less keeps them smooth, more is faster."""

    def __post_init__(self) -> None:
        for name in ("max_running", "max_waiting", "max_adapters", "max_lora_rank", "prefill_tokens"):
            _require_positive(name, getattr(self, name))
        for name in ("max_context", "threads", "cache_tokens"):
            if getattr(self, name) is not None:
                _require_positive(name, getattr(self, name))
        if not self.base_revision:
            msg = "base_revision is empty; give the base model a name."
            raise ValueError(msg)


def _require_positive(name: str, value: int) -> None:
    if value < 1:
        msg = f"{name} is {value}; it must be at least 1."
        raise ValueError(msg)
