"""Many ranks from one command: torchrun as a child, signals passed on, one exit code for the pod.

Light on purpose: this process imports no model library, so that it can answer a signal from its first moment on.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from fettle_trainer.config.exit_codes import ExitCode
from fettle_trainer.durable.kernel_kills import memory_kills
from fettle_trainer.durable.signals import heard_by
from fettle_trainer.durable.verdict import REPORTS_VARIABLE, Verdict, judge, read_reports
from fettle_trainer.errors import IncompleteError, WrongInputError
from fettle_trainer.processors import available

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

    from fettle_trainer.config.run import DistributedConfig

NODE_RANK_VARIABLES: Final = ("FETTLE_NODE_RANK", "JOB_COMPLETION_INDEX")
MASTER_ADDRESS_VARIABLE: Final = "FETTLE_MASTER_ADDR"
MASTER_PORT_VARIABLE: Final = "FETTLE_MASTER_PORT"
_DEFAULT_PORT: Final = 29500
_GRACE_MARGIN_S: Final = 10
"""What the launcher keeps of the grace period to read the reports and write the last words."""
_NAME_DEADLINE_S: Final = 300.0
"""A pod's name can appear in the cluster's DNS tens of seconds after the pod."""
_NAME_PAUSE_S: Final = 2.0


@dataclass(frozen=True)
class GangPlan:
    """Who belongs to the gang, and where it meets."""

    nodes: int
    processes_per_node: int
    node_rank: int
    master_address: str
    master_port: int
    shutdown_timeout_s: int

    @property
    def ranks_here(self) -> range:
        """Return the ranks of this node; they are fixed, so that rank 0 is on the first node."""
        return range(self.node_rank * self.processes_per_node, (self.node_rank + 1) * self.processes_per_node)


def plan_gang(distributed: DistributedConfig, environment: Mapping[str, str]) -> GangPlan:
    """Return the plan from the configuration and what the pod says about itself."""
    nodes = distributed.nodes
    return GangPlan(
        nodes=nodes,
        processes_per_node=distributed.processes_per_node,
        node_rank=_node_rank(nodes, environment) if nodes > 1 else 0,
        master_address=_master(environment) if nodes > 1 else "127.0.0.1",
        master_port=_number(environment.get(MASTER_PORT_VARIABLE, str(_DEFAULT_PORT)), MASTER_PORT_VARIABLE),
        shutdown_timeout_s=max(1, distributed.grace_seconds - _GRACE_MARGIN_S),
    )


def torchrun_command(plan: GangPlan, program: Sequence[str]) -> list[str]:
    """Return the command that starts this node's ranks; `program` is `-m <module> …` or a script, as for Python."""
    meeting = (
        ["--standalone"]
        if plan.nodes == 1
        # c10d hands out ranks in the order of arrival; static keeps rank 0, and what it serves, on the first node.
        else [
            *("--rdzv-backend", "static", "--nnodes", str(plan.nodes), "--node-rank", str(plan.node_rank)),
            *("--master-addr", plan.master_address, "--master-port", str(plan.master_port)),
        ]
    )
    return [
        *(sys.executable, "-m", "torch.distributed.run", *meeting),
        *("--nproc-per-node", str(plan.processes_per_node)),
        # A rank that came back alone would leave the others waiting; the next attempt starts all of them.
        *("--max-restarts", "0", "--shutdown-timeout", str(plan.shutdown_timeout_s)),
        *program,
    ]


class Children:
    """One child process after the other; signals go to the one that runs."""

    def __init__(self) -> None:
        self.requested: signal.Signals | None = None
        self._requested_at = 0.0
        self._child: subprocess.Popen[bytes] | None = None

    @contextmanager
    def listening(self) -> Iterator[Children]:
        """Pass SIGTERM and SIGINT on within the block: the first gently, a second one ends everything."""
        with heard_by(self._handle):
            yield self

    def run(self, command: Sequence[str], environment: Mapping[str, str]) -> int:
        """Run a child to its end and return its exit code; none is started once a stop was requested."""
        if asked := self._asked():
            return 128 + asked
        # A session of its own: a terminal's Ctrl-C reaches us alone and is passed on once.
        with subprocess.Popen(command, env=dict(environment), start_new_session=True) as child:
            self._child = child
            if asked := self._asked():  # between the question above and the child's start
                child.send_signal(asked)
            try:
                return child.wait()
            finally:
                self._child = None

    def ended_within(self, seconds: float) -> bool:
        """Whether less than that has passed since the stop was requested: nobody had to be killed."""
        return time.monotonic() - self._requested_at < seconds

    def _asked(self) -> signal.Signals | None:
        return self.requested

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        child = self._child
        if self.requested is None:
            self.requested = signal.Signals(number)
            self._requested_at = time.monotonic()
            if child is not None:
                child.send_signal(number)
        elif child is not None:
            # torchrun puts every rank into a session of its own, so its process group does not reach them.
            for pid in [*_descendants(child.pid), child.pid]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def run_gang(
    plan: GangPlan, program: Sequence[str], children: Children, environment: Mapping[str, str]
) -> Verdict:
    """Start this node's ranks, wait for their end and return the one verdict over them."""
    if plan.nodes > 1:
        wait_for_name(plan.master_address)
    threads = max(1, available() // plan.processes_per_node)
    # Where nothing is said torchrun gives each rank a single thread, whatever the machine has.
    settings = {"OMP_NUM_THREADS": str(threads), **environment}
    command = torchrun_command(plan, program)
    return run_reporting(command, plan.ranks_here, children, settings, plan.shutdown_timeout_s)


def run_reporting(
    command: Sequence[str],
    ranks: range,
    children: Children,
    environment: Mapping[str, str],
    patience_s: float,
) -> Verdict:
    """Run a child whose ranks report their end, and return the verdict over the reports."""
    kills = memory_kills()
    with TemporaryDirectory(prefix="fettle-ranks-") as folder:
        returncode = children.run(command, {**environment, REPORTS_VARIABLE: folder})
        reports = read_reports(Path(folder))
    if children.requested is not None and not reports and children.ended_within(patience_s):
        # The signal came while the interpreters were still loading their libraries.
        return Verdict(
            ExitCode.STOPPED,
            "Stopped",
            f"The run was stopped by {children.requested.name} before it had anything new to save.",
        )
    return judge(reports, ranks, returncode, memory_kill=memory_kills() > kills)


def wait_for_name(
    name: str,
    resolve: Callable[[str], object] = socket.gethostbyname,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until the first node's name is known; raise when it is not within some minutes."""
    deadline = clock() + _NAME_DEADLINE_S
    while True:
        try:
            resolve(name)
        except OSError as error:
            if clock() >= deadline:
                raise IncompleteError(
                    "MasterUnknown",
                    f"The name {name} of the first node was not known after {_NAME_DEADLINE_S:.0f} s ({error})."
                    f" Is it the one that the headless Service publishes? It is set by {MASTER_ADDRESS_VARIABLE}.",
                    MASTER_ADDRESS_VARIABLE,
                ) from error
            pause(_NAME_PAUSE_S)
        else:
            return


def _node_rank(nodes: int, environment: Mapping[str, str]) -> int:
    for variable in NODE_RANK_VARIABLES:
        if variable in environment:
            rank = _number(environment[variable], variable)
            if rank < nodes:
                return rank
            message = f"{variable} is {rank}, but distributed.nodes is {nodes}: the first node is number 0."
            raise WrongInputError("NodeRankWrong", message, variable)
    message = (
        f"distributed.nodes is {nodes}, so every node must be told its number: set {NODE_RANK_VARIABLES[0]} to 0"
        f" on the first node, 1 on the second, and so on."
    )
    raise WrongInputError("NodeRankMissing", message, NODE_RANK_VARIABLES[0])


def _master(environment: Mapping[str, str]) -> str:
    if address := environment.get(MASTER_ADDRESS_VARIABLE):
        return address
    message = f"With several nodes {MASTER_ADDRESS_VARIABLE} must be the first node's name or address."
    raise WrongInputError("MasterMissing", message, MASTER_ADDRESS_VARIABLE)


def _number(text: str, variable: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    raise WrongInputError("NumberWrong", f"{variable} is {text!r}; it must be a whole number.", variable)


def _descendants(pid: int) -> list[int]:
    """Return all processes below one, the deepest last."""
    parents: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            # The name in parentheses may itself hold spaces and parentheses.
            parents.setdefault(int(status.read_text().rpartition(")")[2].split()[1]), []).append(
                int(status.parent.name)
            )
    found, open_ = [], [pid]
    while open_:
        below = parents.get(open_.pop(), [])
        found += below
        open_ += below
    return found
