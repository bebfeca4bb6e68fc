"""The verification report: from what happened to at most 4 KiB of JSON."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from fettle_trainer.adapter.errors import AdapterRefusedError, FileChangedError
from fettle_trainer.config.verification import (
    MAX_REPORT_BYTES,
    VerificationError,
    VerificationReport,
    VerifiedAdapter,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_EXPENDABLE: Final[dict[str, object]] = {"files": (), "metrics": {}, "target_modules": ()}
"""Left out one after the other until the report fits."""
_MESSAGE_LENGTHS: Final = (1000, 250)
"""Characters that remain of a message that has to be cut; the shorter one fits however they are escaped."""


def verified(adapter: VerifiedAdapter) -> VerificationReport:
    """Report a sound adapter."""
    return VerificationReport(outcome="verified", adapter=adapter)


def refused(error: AdapterRefusedError) -> VerificationReport:
    """Report an adapter that is wrong."""
    return VerificationReport(
        outcome="refused", error=VerificationError(code=error.code, message=error.message, file=error.file)
    )


def failed(error: Exception) -> VerificationReport:
    """Report a check that could not be completed."""
    if isinstance(error, FileChangedError):
        return VerificationReport(
            outcome="failed", error=VerificationError(code="FileChanged", message=str(error), file=error.file)
        )
    return VerificationReport(
        outcome="failed", error=VerificationError(code="CheckFailed", message=sentence(error))
    )


def render(report: VerificationReport) -> bytes:
    """Render the report as JSON that fits a termination message: lists are left out whole, messages are cut."""
    for candidate in _ever_smaller(report):
        data = candidate.model_dump_json(by_alias=True, exclude_none=True).encode()
        if len(data) <= MAX_REPORT_BYTES:
            return data
    msg = "the smallest form of a report must fit"
    raise AssertionError(msg)


def write_report(path: Path, data: bytes) -> None:
    """One write into the file as it is: the kubelet mounts it, so it cannot be replaced by a rename."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if os.write(descriptor, data) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        # Truncated last: at no moment is the file emptier than it was.
        if path.is_file():
            os.ftruncate(descriptor, len(data))
    finally:
        os.close(descriptor)


def _ever_smaller(report: VerificationReport) -> Iterator[VerificationReport]:
    yield report
    if report.adapter is not None:
        adapter = report.adapter
        for name, empty in _EXPENDABLE.items():
            adapter = adapter.model_copy(update={name: empty})
            yield report.model_copy(update={"adapter": adapter})
    if report.error is not None:
        for limit in _MESSAGE_LENGTHS:
            error = {"message": report.error.message[:limit] + "…", "file": report.error.file[:limit]}
            yield report.model_copy(update={"error": report.error.model_copy(update=error)})


def sentence(error: Exception) -> str:
    """Say for the user what stopped the check."""
    if isinstance(error, OSError):
        where = f" ({os.fsdecode(error.filename)})" if error.filename else ""
        return f"The adapter could not be read: {error.strerror or type(error).__name__}{where}."
    return f"The check stopped unexpectedly: {type(error).__name__}: {error}."
