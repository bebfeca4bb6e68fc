"""The environment of tests that run the model stack, and one tiny model of each family per session.

Import it before anything that imports torch.
"""

from __future__ import annotations

import os

# Two cores are shared by the test processes, and nothing may look at a hub.
os.environ.update(
    OMP_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    DS_ACCELERATOR="cpu",
    CUDA_VISIBLE_DEVICES="",
)

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of a family's tiny model: `tiny("qwen3")`. Made once; do not write into it."""
    # What stands around an engine is tested without the model stack.
    from tiny_models import tiny_model  # noqa: PLC0415

    root = tmp_path_factory.mktemp("tiny-models")

    def folder(family: str) -> Path:
        path = root / family
        return path if path.exists() else tiny_model(family, path)

    return folder
