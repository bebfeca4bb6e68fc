"""`verify`: read an adapter directory from the first byte to the last and report what it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fettle_trainer.adapter import report
from fettle_trainer.adapter.errors import AdapterRefusedError
from fettle_trainer.adapter.verify import verify_adapter
from fettle_trainer.commands.terminal import answer, tell
from fettle_trainer.config.exit_codes import ExitCode

if TYPE_CHECKING:
    import argparse

    from fettle_trainer.config.verification import VerificationReport

_EXIT_CODES = {"verified": ExitCode.DONE, "refused": ExitCode.WRONG_INPUT, "failed": ExitCode.INCOMPLETE}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = commands.add_parser("verify", help="check an adapter directory", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="the adapter, as PEFT saved it")
    parser.add_argument("--report", type=Path, help="write the report (JSON, at most 4 KiB) into this file")
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> int:
    """Verify, report, and say the outcome in one line."""
    outcome = _verify(arguments.directory)
    data = report.render(outcome)
    if arguments.report is None:
        answer(data.decode())
    else:
        try:
            report.write_report(arguments.report, data)
        except OSError as error:
            tell(f"The report could not be written to {arguments.report}: {error.strerror}.")
            return ExitCode.INCOMPLETE
    tell(_summary(outcome))
    return _EXIT_CODES[outcome.outcome]


def _verify(directory: Path) -> VerificationReport:
    try:
        return report.verified(verify_adapter(directory))
    except AdapterRefusedError as error:
        return report.refused(error)
    except Exception as error:  # noqa: BLE001 - the report must tell whatever happened; the Job is retried
        return report.failed(error)


def _summary(outcome: VerificationReport) -> str:
    if outcome.adapter is not None:
        adapter = outcome.adapter
        remark = " All its lora_B tensors are zero: it changes nothing." if adapter.untrained else ""
        if adapter.artefact == "model":
            return f"verified: model by {adapter.method} from {adapter.base_model}, {adapter.digest}."
        return f"verified: {adapter.method} of rank {adapter.rank} for {adapter.base_model}, {adapter.digest}.{remark}"
    if outcome.error is not None:
        return f"{outcome.outcome}: {outcome.error.code}: {outcome.error.message}"
    return outcome.outcome
