"""Where the training thread leaves what is known and the server's threads find it."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fettle_trainer.config.progress import Phase, ProgressReport

if TYPE_CHECKING:
    from collections.abc import Callable


def _now() -> datetime:
    return datetime.now(UTC)


class Board:
    """One immutable report at a time: a reader never sees half of an update, a writer never waits for a reader."""

    def __init__(self, clock: Callable[[], datetime] = _now) -> None:
        self._clock = clock
        self._writing = threading.Lock()
        self._report = ProgressReport()

    def read(self) -> ProgressReport:
        """Return what was known last."""
        return self._report

    def update(self, **facts: Any) -> None:
        """Replace some facts; those that are None are no longer known."""
        with self._writing:
            updated = {**dict(self._report), **facts, "updated_at": self._clock().replace(microsecond=0)}
            self._report = ProgressReport(**updated)

    def enter(self, phase: Phase) -> None:
        """Say what the process is busy with from now on."""
        self.update(phase=phase)
