"""`evaluate`: measure a released adapter beside its base, on the rows that the run's dataset holds out.

Writes evaluation.json and samples.jsonl and prints a table. Exit codes: 0 done; 2 the data, the settings or the
adapter are wrong; 3 a gate was missed; 85 stopped by a signal.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fettle_trainer.commands.run_file import allowed_networks, load_run
from fettle_trainer.commands.terminal import answer, tell
from fettle_trainer.commands.verdict import exit_code_of
from fettle_trainer.config.exit_codes import ExitCode

if TYPE_CHECKING:
    from fettle_trainer.config.evaluation_report import EvaluationReport


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = commands.add_parser(
        "evaluate",
        help="measure an adapter beside its base",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="the run configuration (JSON)")
    parser.add_argument("--adapter", type=Path, help="its directory (default: what the run released last)")
    parser.add_argument(
        "--output", type=Path, help="the folder for the report (default: the run's work folder)"
    )
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure, and say what came out."""
    return exit_code_of(lambda: _measured(arguments))


def _measured(arguments: argparse.Namespace) -> int:
    report = _evaluate(arguments)
    answer(table(report))
    return ExitCode.DONE if report.passed else ExitCode.GATE_MISSED


def _evaluate(arguments: argparse.Namespace) -> EvaluationReport:
    from fettle_trainer.durable.stop import StopRequest  # noqa: PLC0415
    from fettle_trainer.evaluate.artefact import evaluate_artefact, newest_release  # noqa: PLC0415
    from fettle_trainer.train.job import make_job  # noqa: PLC0415
    from fettle_trainer.train.phases import quiet  # noqa: PLC0415

    config = load_run(arguments.run)
    with quiet(), StopRequest().listening() as request:
        job = make_job(config, allowed_networks())
        folder = arguments.adapter or newest_release(job.folders.output / config.output.adapter_name)
        into = arguments.output or job.folders.work
        report = evaluate_artefact(job, folder, into, request.check)
    tell(f"{folder}: report and samples are in {into}.")
    return report


def table(report: EvaluationReport) -> str:
    """Return the scores of both models and the verdicts of the gates."""
    base = report.base or {}
    rows = [("metric", "base", "tuned")]
    rows += [
        (name, f"{base[name]:.4g}" if name in base else "", f"{value:.4g}")
        for name, value in report.tuned.items()
    ]
    lines = [f"{name:<16}{before:>10}{after:>10}" for name, before, after in rows]
    lines += [
        f"gate {gate.metric} {gate.bound} {gate.threshold:g}: {gate.value:.4g}, "
        f"{'passed' if gate.passed else 'missed'}"
        for gate in report.gates
    ]
    return "\n".join(lines)
