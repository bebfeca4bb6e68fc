"""How a command ends whose work may fail in any way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle_trainer.commands.terminal import tell

if TYPE_CHECKING:
    from collections.abc import Callable


def exit_code_of(work: Callable[[], int]) -> int:
    """Do the work and return the exit code that it returns, or the one of what went wrong, which is told."""
    # Seconds of imports, which `--help` does not need.
    from fettle_trainer.train.ending import verdict_of  # noqa: PLC0415

    try:
        return work()
    except Exception as error:  # noqa: BLE001 - a user gets a sentence, never a traceback
        verdict = verdict_of(error)
        tell(f"{verdict.code}: {verdict.message}")
        return verdict.exit_code
