"""The last words of a run: its outcome as JSON where Kubernetes reads it, never more than it keeps."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from fettle_trainer.config.outcome import MAX_OUTCOME_BYTES, Outcome

DEFAULT_TERMINATION_LOG: Final = Path("/dev/termination-log")
_CUT: Final = " …"


def termination_log(named: Path | None) -> Path | None:
    """Return where to write: the named file, or Kubernetes' own if this is a pod."""
    if named is not None:
        return named
    usable = DEFAULT_TERMINATION_LOG.is_file() and os.access(DEFAULT_TERMINATION_LOG, os.W_OK)
    return DEFAULT_TERMINATION_LOG if usable else None


def write_termination_message(outcome: Outcome, path: Path) -> None:
    """Write the message in place: the file is a mount, which cannot be renamed over."""
    path.write_bytes(render_outcome(outcome))


def render_outcome(outcome: Outcome) -> bytes:
    """Return the outcome as JSON of at most 4 KiB: the sentence is cut, never the JSON, and reports go last.

    What was chosen goes first: it stands in the store too, and `GET /progress` has told it before.
    """
    if len(_text(outcome)) > MAX_OUTCOME_BYTES:
        outcome = outcome.model_copy(update={"resolved": {}})
    data = _text(outcome)
    if len(data) <= MAX_OUTCOME_BYTES:
        return data
    if outcome.error is not None:
        outcome = _with_message(outcome, _longest_fitting(outcome, outcome.error.message))
    for field in ("reports", "metrics"):
        if len(_text(outcome)) > MAX_OUTCOME_BYTES:
            outcome = outcome.model_copy(update={field: {}})
    return _text(outcome)


def _longest_fitting(outcome: Outcome, message: str) -> str:
    """Return as much of the sentence as fits; bisected, because escapes make bytes of characters."""
    low, high = 0, len(message)
    while low < high:
        middle = (low + high + 1) // 2
        if len(_text(_with_message(outcome, message[:middle] + _CUT))) <= MAX_OUTCOME_BYTES:
            low = middle
        else:
            high = middle - 1
    return message[:low] + _CUT


def _with_message(outcome: Outcome, message: str) -> Outcome:
    if outcome.error is None:
        return outcome
    return outcome.model_copy(update={"error": outcome.error.model_copy(update={"message": message})})


def _text(outcome: Outcome) -> bytes:
    return outcome.model_dump_json(by_alias=True, exclude_none=True).encode()
