"""The number of threads that one forward gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from fettle_server.engine import cpu_threads
from fettle_server.engine.cpu_threads import worthwhile
from fettle_server.engine.engine import Engine, EngineSettings
from fettle_trainer.processors import available


@pytest.mark.parametrize(
    ("most", "seconds", "expected"),
    [
        (8, {8: 0.5}, 8),
        (8, {8: 0.010, 4: 0.014}, 8),
        (8, {8: 0.010, 4: 0.012, 2: 0.014}, 4),
        (6, {6: 0.020, 3: 0.010, 1: 0.012}, 1),
        (1, {1: 0.001}, 1),
    ],
    ids=["a long step", "worth it", "half are as good", "one is as good", "no other"],
)
def test_a_short_step_gets_no_more_threads_than_are_worth_it(
    most: int, seconds: dict[int, float], expected: int
) -> None:
    asked: list[int] = []

    def seconds_with(threads: int) -> float:
        asked.append(threads)
        return seconds[threads]

    assert worthwhile(most, seconds_with) == expected
    assert asked == list(seconds), "no more is tried than tells something"


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("threads")
async def test_the_steps_get_what_is_worthwhile_of_what_the_container_may_use(
    releases: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slower_with_less(most: int, seconds_with: Callable[[int], float]) -> int:
        assert most == available()
        assert seconds_with(1) > 0
        return 1

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(available() + 3)
    monkeypatch.setattr(cpu_threads, "worthwhile", slower_with_less)
    base = releases("llama").base
    engine = Engine(EngineSettings(base, base))
    await engine.start()
    # Each thread has a number of its own, and that of the steps is what matters.
    told: list[int] = []
    engine._parts[0].in_parts(iter(lambda: told.append(torch.get_num_threads()), None)).result(10)  # type: ignore[index]
    await engine.stop(0)
    assert told == [1]
