"""How many tokens the cache may hold, from the memory that is free once the base model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from fettle_server.engine.types import BaseRefusedError

if TYPE_CHECKING:
    from fettle_server.engine.base_model import BaseModel
    from fettle_server.engine.settings import EngineSettings

_SHARE: Final = 0.4
"""Of the free memory: growing a cache holds the old and the new one for a moment, and adapters want room too."""
_CGROUP: Final = Path("/sys/fs/cgroup")
_DEFAULT_CONTEXT: Final = 4096
"""For the rare model that does not say how long a text may be."""


def cache_tokens(settings: EngineSettings, base: BaseModel) -> int:
    """Return the bound of the cache: what is asked for, else what fits, and never more than all rows can use."""
    if settings.cache_tokens is not None:
        return settings.cache_tokens
    fitting = int(_free_bytes(base) * _SHARE) // base.token_bytes
    return max(1, min(fitting, settings.max_running * _asked_context(settings, base)))


def context_tokens(settings: EngineSettings, base: BaseModel, cache: int) -> int:
    """Return how long a prompt and its answer may be together; one request alone has to fit into the cache."""
    if settings.max_context is not None and settings.max_context > cache:
        raise BaseRefusedError(
            f"max_context is {settings.max_context}, but the cache holds {cache} tokens in the memory that is free. "
            "Lower it, or give the server more memory."
        )
    if settings.max_context is not None and settings.max_context > (
        base.max_positions or settings.max_context
    ):
        raise BaseRefusedError(
            f"max_context is {settings.max_context}, but the model was made for {base.max_positions} tokens. Lower it."
        )
    return min(_asked_context(settings, base), cache)


def _asked_context(settings: EngineSettings, base: BaseModel) -> int:
    return settings.max_context or base.max_positions or _DEFAULT_CONTEXT


def _free_bytes(base: BaseModel) -> int:
    if base.device.type == "cuda":
        free: int = torch.cuda.mem_get_info(base.device)[0]
        return free
    return min(_available_bytes(), _left_in_cgroup())


def _available_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 2**30


def _left_in_cgroup() -> int:
    """Return what the container may still take; what the kernel can drop, such as cached files, is counted as free."""
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit == "max":
            return 2**62
        used = int((_CGROUP / "memory.current").read_text())
        statistics = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
        return int(limit) - used + int(statistics.get("inactive_file", 0))
    except (OSError, ValueError):
        return 2**62  # another version of cgroups, or none
