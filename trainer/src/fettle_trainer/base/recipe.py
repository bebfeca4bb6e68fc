"""Everything that the base model's bytes follow from."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Final

_LIBRARIES: Final = ("tokenizers", "torch", "transformers")


@dataclass(frozen=True)
class Recipe:
    """How the model is made; two equal recipes make equal models."""

    steps: int = 400
    seed: int = 0
    threads: int = 1
    """Part of the recipe because the order of a sum depends on it. One, which a busy machine has."""
    rows_per_step: int = 4
    row_tokens: int = 256
    learning_rate: float = 2e-3
    vocabulary: int = 768
    hidden_size: int = 256
    intermediate_size: int = 1024
    layers: int = 3
    heads: int = 8
    max_positions: int = 1024

    @property
    def key(self) -> str:
        """Name the model by its recipe, the code that follows it and the libraries beneath."""
        versions = {name: importlib.metadata.version(name) for name in _LIBRARIES}
        content = json.dumps([asdict(self), versions, _code_digest()], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def _code_digest() -> str:
    digest = hashlib.sha256()
    for file in sorted(resources.files(__package__).iterdir(), key=lambda file: file.name):
        if file.is_file():
            digest.update(f"{file.name}\0".encode() + file.read_bytes())
    return digest.hexdigest()
