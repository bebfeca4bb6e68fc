"""How many threads one forward gets on a CPU.

More threads make the forward of a large model faster. That of a small one they make no faster when nothing else runs,
and several times slower when the event loop wants a processor, too: at each product, all wait for the thread that has
none. So where a step is short, threads are taken only if they are worth it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import torch

from fettle_server.engine.batch_model import NewTokens
from fettle_trainer.processors import settle_threads, threads_are_given

if TYPE_CHECKING:
    from collections.abc import Callable

    from fettle_server.engine.batch_model import BatchModel

_SHORT_S: Final = 0.03
"""A step that takes longer does not notice how long its threads wait for each other."""
_WORTH: Final = 1.3
"""So much faster a short step has to be with all threads; else fewer do."""
_ROWS: Final = 8
_TURNS: Final = 5


def tune_threads(model: BatchModel) -> None:
    """Give torch the threads that are worth it, of those that the container has processors for."""
    settle_threads()
    if model.device.type == "cpu" and not threads_are_given():
        torch.set_num_threads(worthwhile(torch.get_num_threads(), _stopwatch(model)))


def worthwhile(most: int, seconds_with: Callable[[int], float]) -> int:
    """Return how many threads to use, from the seconds that a step takes with so many: all, or half again and again."""
    chosen, shortest = most, seconds_with(most)
    while chosen > 1 and shortest < _SHORT_S:
        seconds = seconds_with(chosen // 2)
        if seconds > shortest * _WORTH:
            break
        chosen, shortest = chosen // 2, min(seconds, shortest)
    return chosen


def _stopwatch(model: BatchModel) -> Callable[[int], float]:
    cache = model.new_cache()
    cache.reserve(_ROWS, _TURNS + 1, _ROWS * (_TURNS + 1))

    def seconds_with(threads: int) -> float:
        torch.set_num_threads(threads)
        times = []
        for turn in range(_TURNS + 1):
            begin = time.perf_counter()
            model.logits(cache, 0, [NewTokens([row], turn, None) for row in range(_ROWS)])
            times.append(time.perf_counter() - begin)
            if times[-1] >= _SHORT_S and turn:
                break
        # The first one warms up.
        return min(times[1:])

    return seconds_with
