"""`fetch`: bring what a run needs from the hub into its store, so that no later step needs a token or a way there.

A base model is kept once for each revision, for all runs of the store; datasets belong to the run.

Exit codes: 0 everything is there; 2 the names, the token or the model are wrong; 1 try again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fettle_trainer.commands.run_file import load_run
from fettle_trainer.commands.terminal import tell
from fettle_trainer.config.exit_codes import ExitCode
from fettle_trainer.durable.termination import write_termination_message
from fettle_trainer.train.ending import failed_outcome, verdict_of
from fettle_trainer.train.folders import run_folders

if TYPE_CHECKING:
    from fettle_trainer.config.run import RunConfig


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = commands.add_parser(
        "fetch",
        help="download a run's model and datasets from the hub",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="the run configuration (JSON)")
    parser.add_argument(
        "--termination-log", type=Path, help="write what went wrong (JSON, at most 4 KiB) into this file"
    )
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> int:
    """Fetch, and choose the exit code."""
    config: RunConfig | None = None
    try:
        config = load_run(arguments.run)
        _fetch(config)
    except Exception as error:  # noqa: BLE001 - whatever went wrong is told in the last words
        verdict = verdict_of(error)
        tell(f"{verdict.code}: {verdict.message}")
        if arguments.termination_log is not None:
            write_termination_message(failed_outcome(verdict, config), arguments.termination_log)
        return verdict.exit_code
    return ExitCode.DONE


def _fetch(config: RunConfig) -> None:
    from fettle_trainer.data.kept import keep_hub_datasets  # noqa: PLC0415 - `--help` needs no client of the hub
    from fettle_trainer.train.base_model import base_folder  # noqa: PLC0415 - as above

    folders = run_folders(config.output)
    if config.model.hugging_face is not None:
        folder = base_folder(config.model, folders.models, folders.base_model)
        tell(f"The base model lies in {folder}.")
    count = keep_hub_datasets(config.dataset, folders.datasets)
    tell(f"{count} datasets of the hub lie in {folders.datasets}.")
