"""`train`: check the data, train, prove and measure the result, and release it.

One process does all of it here. With several (`distributed` in the run's file) this process starts them with torchrun
and waits. A `torchrun -m fettle_trainer train run.json` of your own does the same with as many as it starts; torchrun
itself then ends with 0 or 1, and names the codes below in its summary.

Exit codes: 0 done; 2 the data or the settings are wrong; 3 a gate was missed; 85 stopped by a signal, after saving;
86 out of memory, try a smaller micro-batch; anything else: try again, the run goes on from its newest checkpoint.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fettle_trainer.atomic import write_atomically
from fettle_trainer.commands.run_file import allowed_networks, load_run
from fettle_trainer.commands.terminal import answer, tell
from fettle_trainer.config.exit_codes import ExitCode
from fettle_trainer.config.outcome import Outcome
from fettle_trainer.durable.failures import is_lost_peer
from fettle_trainer.durable.launch import Children, plan_gang, run_gang, run_reporting
from fettle_trainer.durable.started_ranks import as_started, is_started_rank
from fettle_trainer.durable.termination import render_outcome, termination_log, write_termination_message
from fettle_trainer.durable.verdict import Verdict, write_report
from fettle_trainer.environment import seal_environment
from fettle_trainer.train.ending import failed_outcome, verdict_of
from fettle_trainer.train.folders import run_folders

if TYPE_CHECKING:
    from fettle_trainer.config.run import RunConfig

_PHASES: Final = ("prepare", "steps", "finish")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command's arguments."""
    parser = commands.add_parser(
        "train",
        help="train, evaluate and release an adapter",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, help="the run configuration (JSON)")
    parser.add_argument(
        "--termination-log", type=Path, help="write the outcome (JSON, at most 4 KiB) into this file"
    )
    # What the processes of a run with several ranks are told.
    parser.add_argument("--phase", choices=_PHASES, help=argparse.SUPPRESS)
    parser.set_defaults(run_command=run)


def run(arguments: argparse.Namespace) -> int:
    """Train in the way that the configuration and the environment ask for."""
    if arguments.phase is not None:
        return _run_phase(arguments)
    first = not is_started_rank() or os.environ["RANK"] == "0"
    config: RunConfig | None = None
    speaks = first
    try:
        config = load_run(arguments.run)
        outcome = _trained(arguments.run, config)
        code: int = ExitCode.DONE
    except Exception as error:  # noqa: BLE001 - whatever ends a run is told in its last words
        verdict = error.verdict if isinstance(error, _ChildFailed) else verdict_of(error)
        outcome, code = failed_outcome(verdict, config), verdict.exit_code
        # Another rank has something to say when it knows more than that all were stopped, or that one is gone.
        speaks = first or not (code == ExitCode.STOPPED or is_lost_peer(error))
    return _say(outcome, code, arguments.termination_log, first=first) if speaks else code


def _trained(file: Path, config: RunConfig) -> Outcome:
    if is_started_rank():
        return _alone(config.model_copy(update={"distributed": as_started(config.distributed)}))
    several = config.distributed.nodes * config.distributed.processes_per_node > 1
    return _with_ranks(file, config) if several else _alone(config)


class _ChildFailed(Exception):
    """A process of the run did not end well."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


def _run_phase(arguments: argparse.Namespace) -> int:
    """Do one phase for the process that waits for it, and leave a report of how it ended."""
    error: Exception | None = None
    try:
        _phase(arguments.phase, load_run(arguments.run))
    except Exception as raised:  # noqa: BLE001 - the report tells
        error = raised
    return write_report(error)


def _phase(name: str, config: RunConfig) -> None:
    from fettle_trainer.train import phases  # noqa: PLC0415 - seconds of imports that a supervisor does not need

    if name == "prepare":
        phases.prepare(config, allowed_networks(), tell)
    elif name == "steps":
        phases.steps(config, allowed_networks(), tell)
    else:
        outcome = phases.finish(config, allowed_networks(), tell)
        write_atomically(_outcome_file(config), render_outcome(outcome))


def _alone(config: RunConfig) -> Outcome:
    """Go through all phases on this process, which may be one of the ranks of somebody's own torchrun."""
    from fettle_trainer.train import phases  # noqa: PLC0415 - as above

    return phases.whole(config, allowed_networks(), tell)


def _with_ranks(file: Path, config: RunConfig) -> Outcome:
    """Supervise: prepare once on this node, run the gang, and finish on the first node."""
    plan = plan_gang(config.distributed, os.environ)
    with Children().listening() as children:
        _require_success(_run_child(children, "prepare", file, plan.shutdown_timeout_s))
        # Nothing has to be fetched any more: the ranks inherit neither secrets nor a way to a hub.
        seal_environment()
        _require_success(run_gang(plan, _program("steps", file), children, os.environ))
        if plan.node_rank > 0:
            return Outcome(outcome="succeeded")
        _require_success(_run_child(children, "finish", file, plan.shutdown_timeout_s))
    return Outcome.model_validate_json(_outcome_file(config).read_bytes())


def _run_child(children: Children, phase: str, file: Path, patience_s: float) -> Verdict:
    command = [sys.executable, *_program(phase, file)]
    return run_reporting(command, range(1), children, os.environ, patience_s)


def _program(phase: str, file: Path) -> list[str]:
    return ["-m", "fettle_trainer", "train", "--phase", phase, str(file)]


def _require_success(verdict: Verdict) -> None:
    if verdict.exit_code != ExitCode.DONE:
        raise _ChildFailed(verdict)


def _outcome_file(config: RunConfig) -> Path:
    return run_folders(config.output).work / "outcome.json"


def _say(outcome: Outcome, code: int, log: Path | None, *, first: bool) -> int:
    path = termination_log(log) if first else None
    if path is not None:
        write_termination_message(outcome, path)
    if outcome.error is not None:
        tell(f"{outcome.outcome}: {outcome.error.code}: {outcome.error.message}")
    elif first:
        answer(outcome.model_dump_json(by_alias=True, exclude_none=True, indent=2))
    return code
