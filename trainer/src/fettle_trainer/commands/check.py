"""`check`: read a run's dataset and say everything that is wrong with it, without model or GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fettle_trainer.atomic import write_atomically
from fettle_trainer.commands.run_file import allowed_networks, load_run
from fettle_trainer.commands.terminal import answer, tell
from fettle_trainer.config.exit_codes import ExitCode
from fettle_trainer.data.check import check_dataset
from fettle_trainer.data.sources import found_files
from fettle_trainer.errors import WrongInputError

if TYPE_CHECKING:
    import argparse

    from fettle_trainer.config.dataset_report import DatasetReport, Finding


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = commands.add_parser("check", help="check a run's dataset", description=__doc__)
    parser.add_argument("run", type=Path, help="the run configuration (JSON)")
    parser.add_argument("--report", type=Path, help="write the report (JSON) into this file")
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> int:
    """Check, report, and choose the exit code: 0 passed, 2 the data or the settings are wrong."""
    try:
        config = load_run(arguments.run)
        with found_files(config.dataset, allowed_networks()) as files:
            report = check_dataset(files, config.dataset, config.training)
    except WrongInputError as error:
        tell(error.message)
        return ExitCode.WRONG_INPUT
    data = report.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"
    if arguments.report is None:
        answer(data.rstrip())
    else:
        write_atomically(arguments.report, data.encode())
    for line in _summary(report):
        tell(line)
    return ExitCode.DONE if report.passed else ExitCode.WRONG_INPUT


def _summary(report: DatasetReport) -> list[str]:
    counts = f"{report.rows} rows to train on, {report.validation_rows} to validate on, {report.bad_rows} bad"
    found = sum(report.counts.values())
    listed = [_line(finding) for finding in report.findings]
    if found > len(listed):
        listed.append(f"… and {found - len(listed)} more.")
    return [*listed, f"{'passed' if report.passed else 'failed'}: {counts}."]


def _line(finding: Finding) -> str:
    place = ":".join(str(part) for part in (finding.file, finding.line, finding.column) if part)
    where = f" {finding.field}:" if finding.field else ""
    return f"{place}: {finding.severity}: {finding.code}:{where} {finding.message}"
