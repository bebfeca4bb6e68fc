"""What can serve an adapter, from the adapter's own configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fettle_trainer.config.compatibility import Compatibility, VllmNote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fettle_trainer.adapter.inspect import InspectedAdapter
    from fettle_trainer.adapter.peft_config import PeftConfig

_VLLM_RANKS: Final = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The values that vLLM takes for --max-lora-rank."""
_MERGE: Final = "Serve the merged model (export `merged`), or use the transformers engine."


def compatibility(adapter: InspectedAdapter) -> Compatibility:
    """Return the note on an adapter."""
    config, rank = adapter.config, adapter.weights.layout.rank
    step = next((step for step in _VLLM_RANKS if step >= rank), None)
    obstacles = tuple(_obstacles(config, rank, step))
    return Compatibility(
        rank=rank,
        dora=config.use_dora,
        rslora=config.use_rslora,
        modules_to_save=tuple(config.modules_to_save or ()),
        target_modules=adapter.weights.layout.target_modules,
        vllm=VllmNote(
            hot_loadable=not obstacles, max_lora_rank=None if obstacles else step, obstacles=obstacles
        ),
    )


def _obstacles(config: PeftConfig, rank: int, step: int | None) -> Iterator[str]:
    if config.use_dora:
        yield f"DoRA: vLLM loads no magnitude vectors. {_MERGE}"
    if config.modules_to_save:
        yield f"Modules saved whole ({', '.join(config.modules_to_save)}): vLLM loads low-rank weights only. {_MERGE}"
    if config.bias != "none" or config.lora_bias:
        yield f"Trained biases: vLLM loads none. {_MERGE}"
    if step is None:
        yield f"Rank {rank}: vLLM loads at most {_VLLM_RANKS[-1]}. {_MERGE}"
