"""`export`: release a checkpoint of a run, in the same way as its end: proof, evaluation, gates.

Prints the folder of each artefact. Exit codes: 0 done; 2 the settings or the checkpoint are wrong; 3 a gate was
missed, and the artefacts lie in the work folder under `rejected`; 85 stopped by a signal.
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
    from fettle_trainer.export.flow import Finished

_FORMATS = ("adapter", "merged", "onnx", "gguf")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = commands.add_parser(
        "export",
        help="release a checkpoint of a run",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="the run configuration (JSON)")
    parser.add_argument(
        "--checkpoint", default="newest", help="its folder or name, such as checkpoint-120 (default: newest)"
    )
    parser.add_argument(
        "--format",
        choices=_FORMATS,
        action="append",
        help="what to make, may be repeated (default: what the run's file says); merged comes beside the adapter",
    )
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> int:
    """Export, and say where the artefacts are."""
    return exit_code_of(lambda: _told(_export(arguments)))


def _told(finished: Finished) -> int:
    for exported in finished.exported:
        answer(str(exported.folder))
    if finished.missed:
        tell(f"GateMissed: {finished.missed}")
        return ExitCode.GATE_MISSED
    return ExitCode.DONE


def _export(arguments: argparse.Namespace) -> Finished:
    from fettle_trainer.durable.stop import StopRequest  # noqa: PLC0415
    from fettle_trainer.export.checkpoint import export_checkpoint  # noqa: PLC0415
    from fettle_trainer.train.job import make_job  # noqa: PLC0415
    from fettle_trainer.train.phases import quiet  # noqa: PLC0415

    config = load_run(arguments.run)
    if arguments.format:
        output = config.output.model_copy(update={"exports": tuple(arguments.format)})
        config = config.model_copy(update={"output": output})
    with quiet(), StopRequest().listening() as request:
        return export_checkpoint(make_job(config, allowed_networks()), arguments.checkpoint, request.check)
