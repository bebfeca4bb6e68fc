"""One verdict over all ranks: each leaves a report of its end, and the launcher reads them.

torchrun itself only knows 0 and 1, and when one rank fails the others fail after it for want of a partner. What
counts is the rank that knows why.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field, ValidationError

from fettle_trainer.atomic import write_atomically
from fettle_trainer.config.base import ContractModel
from fettle_trainer.config.exit_codes import ExitCode
from fettle_trainer.durable.failures import is_lost_peer, is_storage_full, lost_peer, storage_full
from fettle_trainer.errors import RunError

if TYPE_CHECKING:
    from collections.abc import Mapping

REPORTS_VARIABLE: Final = "FETTLE_RANK_REPORTS"
"""The folder for the reports; the launcher makes a new one for every gang."""
KILLED: Final = 137
_MOST: Final = 1500
"""Characters of a foreign exception that are passed on."""
_BY_WEIGHT: Final = (ExitCode.WRONG_INPUT, ExitCode.OUT_OF_MEMORY, ExitCode.GATE_MISSED)


class RankReport(ContractModel):
    """How one rank ended."""

    exit_code: int
    at: float
    """Seconds since the epoch: the first failure is the cause of the others."""
    code: str = ""
    message: Annotated[str, Field(max_length=4096)] = ""
    param: str = ""
    lost_peer: bool = False
    """It failed only because another rank was gone."""


@dataclass(frozen=True)
class Verdict:
    """How the gang ended, for the exit code and the termination message."""

    exit_code: int
    code: str = ""
    message: str = ""
    param: str = ""


def report_of(error: BaseException | None, now: float) -> RankReport:
    """Return the report of a rank that ends with this error, or with none."""
    if error is None:
        return RankReport(exit_code=ExitCode.DONE, at=now)
    if is_storage_full(error):
        error = storage_full(error)
    if isinstance(error, RunError):
        return RankReport(
            exit_code=error.exit_code,
            at=now,
            code=error.code,
            message=error.message[:4096],
            param=error.param,
        )
    return RankReport(
        exit_code=ExitCode.INCOMPLETE,
        at=now,
        code="InternalError",
        message=f"{type(error).__name__}: {error}"[:_MOST],
        lost_peer=is_lost_peer(error),
    )


def write_report(error: BaseException | None, environment: Mapping[str, str] = os.environ) -> int:
    """Leave this rank's report where the launcher looks, if there is one; return the rank's exit code."""
    report = report_of(error, time.time())
    folder = environment.get(REPORTS_VARIABLE)
    if folder:
        name = f"rank-{environment.get('RANK', '0')}.json"
        write_atomically(Path(folder) / name, report.model_dump_json(by_alias=True).encode())
    return report.exit_code


def read_reports(folder: Path) -> dict[int, RankReport]:
    """Return the reports that are there, by rank; a torn one counts as none."""
    reports: dict[int, RankReport] = {}
    for path in folder.glob("rank-*.json"):
        try:
            reports[int(path.stem.removeprefix("rank-"))] = RankReport.model_validate_json(path.read_bytes())
        except (ValidationError, ValueError):
            continue
    return reports


def judge(
    reports: Mapping[int, RankReport], ranks: range, returncode: int, *, memory_kill: bool = False
) -> Verdict:
    """Return how the gang ended; `returncode` is that of torchrun, `memory_kill` what the kernel says."""
    for weighty in _BY_WEIGHT:
        if found := _earliest(reports, weighty):
            return found
    missing = [rank for rank in ranks if rank not in reports]
    if missing and memory_kill:
        return Verdict(
            ExitCode.OUT_OF_MEMORY,
            "OutOfMemory",
            f"The kernel killed rank {missing[0]}, because the container's memory was used up. Lower"
            " training.microBatchSize, or give the container more memory.",
            "training.microBatchSize",
        )
    ends = {report.exit_code for report in reports.values()}
    if not missing and ends == {ExitCode.STOPPED}:
        found = _earliest(reports, ExitCode.STOPPED)
        assert found is not None  # noqa: S101 - all of them are
        return found
    if not missing and ends == {ExitCode.DONE} and returncode == 0:
        return Verdict(ExitCode.DONE)
    if found := _earliest(reports, ExitCode.INCOMPLETE):
        return found
    return _lost(missing[0], len(ranks)) if missing else _unexplained(reports, returncode)


def _lost(rank: int, ranks: int) -> Verdict:
    return Verdict(
        KILLED,
        "RankLost",
        f"Rank {rank} of {ranks} ended without a word: it was killed, perhaps because the node ran out of memory or is"
        " going down. The run goes on from the newest checkpoint.",
    )


def _unexplained(reports: Mapping[int, RankReport], returncode: int) -> Verdict:
    if any(report.lost_peer for report in reports.values()):  # the one that knows why is on another node
        gone = lost_peer()
        return Verdict(gone.exit_code, gone.code, gone.message)
    ends = {report.exit_code for report in reports.values()}
    return Verdict(
        ExitCode.INCOMPLETE,
        "RanksDisagree",
        f"The ranks did not end alike (torchrun: {returncode}; ranks: {sorted(ends)}). The run goes on from the"
        " newest checkpoint.",
    )


def _earliest(reports: Mapping[int, RankReport], exit_code: int) -> Verdict | None:
    found = [report for report in reports.values() if report.exit_code == exit_code and not report.lost_peer]
    if not found:
        return None
    first = min(found, key=lambda report: report.at)
    return Verdict(first.exit_code, first.code, first.message, first.param)
