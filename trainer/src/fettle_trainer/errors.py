"""How a run ends when it does not end well: the exception's type decides the exit code."""

from __future__ import annotations

from typing import ClassVar

from fettle_trainer.config.exit_codes import ExitCode


class RunError(Exception):
    """A run's end that the user is told of: a stable code, a sentence, and the setting or file it is about."""

    exit_code: ClassVar[ExitCode] = ExitCode.INCOMPLETE

    def __init__(self, code: str, message: str, param: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.param = param


class WrongInputError(RunError):
    """The data or the settings are wrong; another attempt changes nothing."""

    exit_code = ExitCode.WRONG_INPUT


class IncompleteError(RunError):
    """Something outside the run failed; another attempt may help."""


class GateMissedError(RunError):
    """The result keeps not all of its gates."""

    exit_code = ExitCode.GATE_MISSED


class StoppedError(RunError):
    """A signal asked the run to stop, and it has saved its state."""

    exit_code = ExitCode.STOPPED


class MemoryExhaustedError(RunError):
    """The micro-batch does not fit into memory."""

    exit_code = ExitCode.OUT_OF_MEMORY
