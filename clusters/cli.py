"""The commands: parse, call, print."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clusters import kubeconfigs, machine, programs
from clusters.choice import Choice, choose
from clusters.embedded import EmbeddedCluster
from clusters.errors import ClustersError
from clusters.explicit import ExplicitCluster
from clusters.kind import KindCluster
from clusters.record import Created, Record, state_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clusters.target import Cluster

TOOLS = ("kubectl", "helm")
"""What people use on a cluster."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an error is one sentence on stderr and exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        return _obey(options)
    except ClustersError as error:
        sys.stderr.write(f"fettle: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("fettle: interrupted; run the same command again to go on\n")
        return 130


def chosen(*, allow_foreign: bool = False) -> tuple[Choice, Cluster]:
    """Return where the product runs, and the cluster there."""
    state = state_folder()
    choice = choose(machine.look(Record(state).read(), allow_foreign=allow_foreign))
    return choice, _cluster(choice)


def _cluster(choice: Choice) -> Cluster:
    state = state_folder()
    if choice.context is not None:
        return ExplicitCluster(choice.context, state)
    if choice.target == "kind" and choice.engine is not None:
        return KindCluster(choice.engine, state)
    return EmbeddedCluster()


def _obey(options: argparse.Namespace) -> int:
    record = Record(state_folder())
    choice, cluster = chosen(allow_foreign=options.allow_foreign)
    match options.command:
        case "choose":
            _print(str(choice))
        case "up":
            cluster.up(nodes=options.nodes, fake_gpus=options.fake_gpus)
            if choice.target != "context":
                record.add(Created(choice.target, _identity(cluster)))
        case "down":
            cluster.down()
            record.remove(choice.target)
        case "kubeconfig":
            _print(str(cluster.kubeconfig()))
        case "env":
            _print(shell_lines(cluster.kubeconfig(), [Path(programs.pinned(tool)) for tool in TOOLS]))
        case "registry":
            _print(cluster.registry())
        case "status":
            return cluster.status()
    return 0


def shell_lines(kubeconfig: Path, tools: Sequence[Path]) -> str:
    """Return what a shell evaluates to speak to the cluster with the tools of the cluster's own version."""
    folders = ":".join(dict.fromkeys(shlex.quote(str(tool.parent)) for tool in tools))
    return f"export KUBECONFIG={shlex.quote(str(kubeconfig))}\nexport PATH={folders}:$PATH"


def _identity(cluster: Cluster) -> str:
    file = cluster.kubeconfig()
    (context,) = kubeconfigs.contexts(file)
    return kubeconfigs.identity(context, file)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m clusters",
        description="Where Fettle runs on this machine: FETTLE_CONTEXT, kind, or the embedded cluster.",
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--allow-foreign",
        action="store_true",
        help="let FETTLE_CONTEXT name a cluster that was not created here (also FETTLE_ALLOW_CONTEXT=1)",
    )
    commands = parser.add_subparsers(title="commands", dest="command", required=True, metavar="COMMAND")
    commands.add_parser("choose", parents=[common], help="say where the product would run")
    up = commands.add_parser("up", parents=[common], help="bring the cluster up")
    up.add_argument(
        "--nodes", type=int, default=1, help="nodes of the embedded cluster (kind: see kind-config.yaml)"
    )
    up.add_argument("--fake-gpus", type=int, default=0, help="GPUs that each node claims to have")
    for name, text in (
        ("down", "remove the cluster that runs here"),
        ("status", "say what runs"),
        ("kubeconfig", "print the path of the kubeconfig, and nothing else"),
        (
            "env",
            "print the lines that point a shell at the cluster: KUBECONFIG, and kubectl and helm on PATH",
        ),
        ("registry", "start the cluster's registry if it does not run, and print the address to push to"),
    ):
        commands.add_parser(name, parents=[common], help=text)
    return parser


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
