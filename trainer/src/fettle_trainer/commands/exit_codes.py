"""What the trainer's exit codes mean to the operator."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The codes that this release returns; the operator retries on INCOMPLETE only."""

    DONE = 0
    INCOMPLETE = 1
    WRONG_INPUT = 2
