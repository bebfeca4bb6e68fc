"""What the layer has to know of the server that it stands in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

__all__ = ["EngineNames", "Surroundings"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The questions that the layer asks, and the place where it may write."""

    revisions: Callable[[], Collection[str]]
    """The revisions that may be label values, the base's among them."""
    busy: Callable[[], bool]
    """Whether a shadow copy would be in the way of users now."""
    pairs_folder: Path | None = None
    """Where pairs of answers may be kept; without one they cannot be asked for."""


@dataclass(frozen=True, slots=True)
class EngineNames:
    """How our own engine is called in metrics."""

    model_name: str
    base_revision: str
    max_adapters: int
