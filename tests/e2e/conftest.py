"""Order of the end-to-end tests: what removes the cluster comes last."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the tests marked `last` behind all others; the order is otherwise as collected."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)
