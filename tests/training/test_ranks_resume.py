"""A killed run goes on as if nothing had happened: bit for bit, on one process and on two, mid-epoch, with dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rank_cases import Case, finished, losses, start, with_

LAYOUTS: list[Any] = [
    pytest.param({}, id="one-process"),
    pytest.param({"world_size": 2}, id="ddp"),
    pytest.param({"world_size": 2, "zero_stage": 0}, id="zero-0"),
    pytest.param({"world_size": 2, "zero_stage": 1}, id="zero-1"),
    pytest.param({"world_size": 2, "zero_stage": 2}, id="zero-2"),
    pytest.param({"world_size": 2, "zero_stage": 3}, id="zero-3"),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_run_that_was_killed_twice_equals_one_that_was_not(tmp_path: Path, layout: dict[str, Any]) -> None:
    undisturbed = Case(folder=tmp_path / "undisturbed", **layout)
    expected = finished(undisturbed)
    killed = with_(undisturbed, folder=tmp_path / "killed")
    for step in (3, 7):  # in the middle of the first epoch, and of the second; whatever it is doing then
        gang = start(killed)
        gang.wait_until(step)
        gang.kill()
    actual = finished(killed)
    assert actual["resumedFrom"] in {4, 6}, "it began anew instead of going on"
    assert actual["digest"] == expected["digest"]
    assert losses(killed.folder) == losses(undisturbed.folder)
