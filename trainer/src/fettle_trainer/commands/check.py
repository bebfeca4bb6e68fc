"""`check`: read a run's dataset and say everything that is wrong with it, without GPU and before any weight is read.

Where the model's folder is at hand its tokenizer is used, and the report tells tokens, lengths, what is trained, and
what the run will need.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from fettle_trainer.atomic import write_atomically
from fettle_trainer.commands.run_file import allowed_networks, load_run
from fettle_trainer.commands.terminal import answer, tell
from fettle_trainer.config.exit_codes import ExitCode
from fettle_trainer.config.outcome import Outcome, OutcomeError
from fettle_trainer.data.brief import brief_report
from fettle_trainer.data.check import check_dataset
from fettle_trainer.data.sources import found_files
from fettle_trainer.durable.failures import is_storage_full, storage_full
from fettle_trainer.durable.termination import write_termination_message
from fettle_trainer.errors import IncompleteError, RunError, WrongInputError
from fettle_trainer.text.tokenizer import has_tokenizer
from fettle_trainer.train.folders import run_folders

if TYPE_CHECKING:
    import argparse

    from fettle_trainer.config.dataset_report import DatasetReport, Finding, RunForecast, TokenFacts
    from fettle_trainer.config.run import RunConfig
    from fettle_trainer.data.check import FoundFiles
    from fettle_trainer.train.forecast import Prospect
    from fettle_trainer.train.preview import Shapes

_SENTENCE, _PARAM = 2048, 256
"""Bounds of what an outcome says."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = commands.add_parser("check", help="check a run's dataset", description=__doc__)
    parser.add_argument("run", type=Path, help="the run configuration (JSON)")
    parser.add_argument("--report", type=Path, help="write the report (JSON) into this file")
    parser.add_argument(
        "--termination-log", type=Path, help="write what matters of it (JSON, at most 4 KiB) into this file"
    )
    parser.add_argument(
        "--gpu", metavar="NAME", help="forecast for a GPU of that name, as 'NVIDIA H100 80GB'"
    )
    parser.add_argument(
        "--gpu-memory", type=float, metavar="GIB", default=80.0, help="how much memory that GPU has (80)"
    )
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> int:
    """Check, report, and choose the exit code: 0 passed, 2 the data or the settings are wrong, 1 no room for a report."""
    try:
        config = load_run(arguments.run)
        kept = run_folders(config.output).datasets
        with found_files(config.dataset, allowed_networks(), kept) as files:
            report = _report(config, files, arguments)
        _leave(report, arguments)
    except WrongInputError as error:
        return _refused(error, arguments)
    except OSError as error:
        if not is_storage_full(error):
            raise
        return _refused(storage_full(error), arguments)
    for line in _summary(report):
        tell(line)
    return ExitCode.DONE if report.passed else ExitCode.WRONG_INPUT


def _leave(report: DatasetReport, arguments: argparse.Namespace) -> None:
    """Put the report where it was asked for."""
    if arguments.termination_log is not None:
        # In place: the file is a mount, which cannot be renamed over.
        arguments.termination_log.write_bytes(brief_report(report))
    data = report.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"
    if arguments.report is None:
        answer(data.rstrip())
    else:
        arguments.report.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(arguments.report, data.encode())


def _refused(error: RunError, arguments: argparse.Namespace) -> int:
    tell(error.message)
    if arguments.termination_log is not None:
        said = OutcomeError(code=error.code, message=error.message[:_SENTENCE], param=error.param[:_PARAM])
        write_termination_message(Outcome(outcome="failed", error=said), arguments.termination_log)
    return error.exit_code


def _report(config: RunConfig, files: FoundFiles, arguments: argparse.Namespace) -> DatasetReport:
    if find_spec("transformers") is None:
        return check_dataset(files, config.dataset, config.training)
    _keep_torch_out()
    # Imported here: without a model the check needs no model library.
    from fettle_trainer.train.base_model import fetched_folder  # noqa: PLC0415
    from fettle_trainer.train.preview import previewed  # noqa: PLC0415 - as above

    folders = run_folders(config.output)
    folder = fetched_folder(config.model, folders.models, folders.base_model)
    hub = config.model.hugging_face
    if folder is not None or hub is None:
        return _with_model(config, files, arguments, folder, None)
    with ExitStack() as stack:
        try:
            preview = stack.enter_context(previewed(hub))
        except IncompleteError as error:
            tell(f"tokens are not counted: {error.message}")
            return check_dataset(files, config.dataset, config.training)
        return _with_model(config, files, arguments, preview.folder, preview.shapes)


def _with_model(
    config: RunConfig,
    files: FoundFiles,
    arguments: argparse.Namespace,
    folder: Path | None,
    shapes: Shapes | None,
) -> DatasetReport:
    """Check with the tokenizer in the folder, if there is one; the shapes are those of weights that are elsewhere."""
    if folder is None or not has_tokenizer(folder):
        return check_dataset(files, config.dataset, config.training)
    from fettle_trainer.text.check import check_tokens  # noqa: PLC0415
    from fettle_trainer.train.forecast import Prospect, shape_from_headers  # noqa: PLC0415

    report, packs = check_tokens(config, folder, files)
    if report.tokens is None:
        return report
    shape = shape_from_headers(config, folder, shapes)
    return _with_forecast(report, config, Prospect(report.tokens, report.format, packs, shape), arguments)


def _with_forecast(
    report: DatasetReport, config: RunConfig, prospect: Prospect, arguments: argparse.Namespace
) -> DatasetReport:
    from fettle_trainer.train.forecast import forecast  # noqa: PLC0415
    from fettle_trainer.train.hardware import Hardware, local_cpu  # noqa: PLC0415

    hardware = local_cpu(config.distributed.processes_per_node)
    if arguments.gpu:
        hardware = Hardware("cuda", True, int(arguments.gpu_memory * 2**30), arguments.gpu)
    try:
        found = forecast(config, prospect, hardware)
    except WrongInputError as error:
        # The run may be meant for other hardware than this; what the data is worth does not depend on it.
        tell(f"no forecast for {hardware.name}: {error.message}")
        return report
    steps = report.predicted_steps if found is None else found.steps
    return report.model_copy(update={"forecast": found, "predicted_steps": steps})


def _keep_torch_out() -> None:
    """Let transformers do without torch: tokenizers need none, and it takes half a gigabyte and five seconds."""
    if "torch" not in sys.modules:
        sys.modules["torch"] = None  # type: ignore[assignment]  # how Python spells "not installed"
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


def _summary(report: DatasetReport) -> list[str]:
    counts = f"{report.rows} rows to train on, {report.validation_rows} to validate on, {report.bad_rows} bad"
    found = sum(report.counts.values())
    listed = [_line(finding) for finding in report.findings]
    if found > len(listed):
        listed.append(f"… and {found - len(listed)} more.")
    tokens = [_token_line(report.tokens)] if report.tokens else []
    needs = [_forecast_line(report.forecast)] if report.forecast else []
    return [*listed, *tokens, *needs, f"{'passed' if report.passed else 'failed'}: {counts}."]


def _token_line(facts: TokenFacts) -> str:
    lengths = f"rows of {facts.median} tokens in the middle, {facts.p99} at 99 %, {facts.longest} at most"
    trained = f"{facts.tokens} tokens to train on, {facts.trained_token_share:.0%} of them trained"
    over = f"{facts.overlong} rows over maxLength {facts.max_length}"
    return f"tokens: {trained}; {lengths}; {over}."


def _forecast_line(found: RunForecast) -> str:
    device = found.device if found.device != "cpu" else "this machine's CPU"
    needs = f"{found.steps} steps of {found.batch_size} rows, about {found.memory_bytes / 2**30:.1f} GiB"
    fits = "" if found.fits else ", which does not fit"
    takes = "" if found.seconds is None else f", some {max(1, round(found.seconds / 60))} minutes"
    return f"forecast for {device}: {needs} for each process in {found.precision}{fits}{takes}."


def _line(finding: Finding) -> str:
    place = ":".join(str(part) for part in (finding.file, finding.line, finding.column) if part)
    where = f" {finding.field}:" if finding.field else ""
    return f"{place}: {finding.severity}: {finding.code}:{where} {finding.message}"
