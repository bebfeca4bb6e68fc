"""What the trainer's exit codes mean to the operator, which decides on the next attempt by them."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The closed list; the operator retries whatever is not in it like INCOMPLETE."""

    DONE = 0
    INCOMPLETE = 1
    """The work could not be completed; another attempt may help."""
    WRONG_INPUT = 2
    """The data or the settings are wrong; another attempt changes nothing."""
    GATE_MISSED = 3
    """Training is complete, but the result is not good enough."""
    STOPPED = 85
    """Stopped by a signal, after saving; another attempt goes on from there and costs nothing."""
    OUT_OF_MEMORY = 86
    """Another attempt needs a smaller micro-batch; the global batch stays."""
