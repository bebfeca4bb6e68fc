"""Adapters on the tiny models, made once per session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server_releases import Release, release


class Releases:
    """Adapters of one family in one root, made when they are first asked for."""

    def __init__(self, base: Path, root: Path) -> None:
        self.base = base
        self.root = root
        self._made: dict[str, Release] = {}

    def __getitem__(self, name: str) -> Release:
        if name not in self._made:
            options: dict[str, dict[str, Any]] = {
                "plain": {},
                "wide": {"r": 8, "lora_alpha": 8},
                "dora": {"use_dora": True},
                "head": {"modules_to_save": ["lm_head"]},
                "last": {"target_modules": ["lm_head"]},
                "end": {"r": 2, "lora_alpha": 32, "target_modules": ["lm_head"]},
                "patterned": {
                    "r": 2,
                    "lora_alpha": 3,
                    "target_modules": ["q_proj", "down_proj"],
                    "rank_pattern": {"down_proj": 4},
                    "alpha_pattern": {"layers.1.mlp.down_proj": 24},
                },
                "strong": {
                    "r": 2,
                    "lora_alpha": 32,
                    "target_modules": ["v_proj", "up_proj"],
                    "use_dora": True,
                },
                "rooted": {"r": 3, "use_rslora": True},
                "embedded": {"target_modules": ["embed_tokens", "q_proj"]},
                "biased": {"lora_bias": True},
            }
            self._made[name] = release(
                self.base, self.root, name, seed=list(options).index(name), **options[name]
            )
        return self._made[name]


@pytest.fixture(scope="session")
def releases(
    tiny: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Releases]:
    """Return the adapters of a family: `releases("qwen3")["dora"]`."""
    made: dict[str, Releases] = {}

    def of(family: str) -> Releases:
        if family not in made:
            made[family] = Releases(tiny(family), tmp_path_factory.mktemp(f"adapters-{family}"))
        return made[family]

    return of
