"""How fast training goes: the time of its own steps alone, over a window of recent ones.

Averages from step 0 are wrong after a resume and lag behind every change, and an average that counts evaluation and
saving promises too late an end. So time is split where it passes: what lies between two steps is training, unless
an evaluation or a save says that it was busy since the last mark.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

WINDOW_STEPS: Final = 50


@dataclass(frozen=True)
class _Mark:
    training_s: float
    amount: float


class _Window:
    """A counter's growth over training time, between the oldest and the newest of the last marks."""

    def __init__(self, size: int) -> None:
        self._marks: deque[_Mark] = deque(maxlen=size + 1)

    def add(self, mark: _Mark) -> None:
        self._marks.append(mark)

    @property
    def growth(self) -> float:
        return self._marks[-1].amount - self._marks[0].amount if self._marks else 0.0

    @property
    def seconds(self) -> float:
        return self._marks[-1].training_s - self._marks[0].training_s if self._marks else 0.0

    @property
    def rate(self) -> float | None:
        return self.growth / self.seconds if self.seconds > 0 else None


class Pace:
    """Times come in as arguments, in seconds of any clock that never goes back."""

    def __init__(self, window_steps: int = WINDOW_STEPS) -> None:
        self._steps = _Window(window_steps)
        self._tokens = _Window(window_steps)
        self._waits = _Window(window_steps)
        self._last_s: float | None = None
        self._training_s = 0.0
        self._waited_s = 0.0

    def started(self, now_s: float) -> None:
        """Begin counting; what went before (loading, resuming) is nobody's training time."""
        self._last_s = now_s

    def trained(self, now_s: float) -> None:
        """Say that the time since the last mark was training."""
        if self._last_s is not None:
            self._training_s += now_s - self._last_s
        self._last_s = now_s

    def paused(self, now_s: float) -> None:
        """Say that the time since the last mark was evaluation or saving."""
        self._last_s = now_s

    def step_done(self, now_s: float, step: int) -> None:
        """Count a step; the first one is only where the window begins, because it warms everything up."""
        self.trained(now_s)
        self._steps.add(_Mark(self._training_s, step))

    def tokens_seen(self, total: float) -> None:
        """Take the number of real tokens that all steps so far have had."""
        self._tokens.add(_Mark(self._training_s, total))

    def waited(self, seconds: float) -> None:
        """Add seconds that training spent on waiting for data."""
        self._waited_s += seconds
        self._waits.add(_Mark(self._training_s, self._waited_s))

    @property
    def tokens_per_second(self) -> float | None:
        """Real tokens per second of training."""
        return self._tokens.rate

    @property
    def data_wait_share(self) -> float | None:
        """Part of the training time that went by without data."""
        rate = self._waits.rate
        return None if rate is None else min(max(rate, 0.0), 1.0)

    def remaining_s(self, step: int, total_steps: int) -> int | None:
        """Return the seconds that the steps to come will take, without evaluation and saving."""
        rate = self._steps.rate
        return round(max(total_steps - step, 0) / rate) if rate else None


def for_people(seconds: int) -> str:
    """Return a duration in its two largest units, such as 1h12m."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes}m"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
