"""Order of the end-to-end tests: what judges the whole run comes late, what removes the cluster comes last."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

HERE = Path(__file__).parent
_BEGAN = pytest.StashKey[float]()


def pytest_configure(config: pytest.Config) -> None:
    """Remember when the run began: a cluster that was there before has seen other runs."""
    config.stash[_BEGAN] = time.time()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Move late tests behind all others of a lower rank; leave out what judges a whole run that is not whole."""
    items.sort(key=_rank)
    if {item.path for item in items} >= set(HERE.glob("test_*.py")):
        return
    whole = [item for item in items if item.get_closest_marker("whole_run")]
    items[:] = [item for item in items if item not in whole]
    if whole:
        config.hook.pytest_deselected(items=whole)


@pytest.fixture(scope="session")
def began(pytestconfig: pytest.Config) -> float:
    """Return when this run began, in seconds of the epoch."""
    return pytestconfig.stash[_BEGAN]


def _rank(item: pytest.Item) -> int:
    marks: Iterable[pytest.Mark] = item.iter_markers("late")
    return max((int(mark.args[0]) for mark in marks), default=0)
