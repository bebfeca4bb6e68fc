"""The commands of devcluster: parse, call, print."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import apiserver, binaries, build, cluster
from devcluster.errors import DevclusterError
from devcluster.paths import DEFAULT_INSTANCE
from devcluster.plan import check_instance_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    _Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 -- argparse names it nowhere else


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an error is one sentence on stderr and exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        code: int | None = options.command(options)
    except DevclusterError as error:
        sys.stderr.write(f"devcluster: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("devcluster: interrupted; run the same command again to go on\n")
        return 130
    return code or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m devcluster", description="A real Kubernetes on one machine."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_cluster_commands(commands)
    _add_tool_commands(commands)
    return parser


def _add_cluster_commands(commands: _Commands) -> None:
    command = commands.add_parser("up", help="bring the cluster up, or finish or mend it")
    command.add_argument("--nodes", type=int, help="how many nodes (default: as before, else 1)")
    command.add_argument(
        "--fake-gpus", type=int, help="how many GPUs each node pretends to have (default: 0)"
    )
    command.set_defaults(command=_up)

    for name, function, text in (
        ("down", _down, "remove the cluster without a trace; caches and pushed images stay"),
        ("status", _status, "say what runs; the exit code is 0 only when everything does"),
        ("kubeconfig", _kubeconfig, "print the path of the administrator's kubeconfig"),
        (
            "registry",
            _registry,
            "start only the local registry, if it does not run yet, and print its address",
        ),
    ):
        commands.add_parser(name, help=text).set_defaults(command=function)

    for command in commands.choices.values():
        command.add_argument(
            "--instance",
            type=str,
            default=DEFAULT_INSTANCE,
            metavar="NAME",
            help="which of several clusters on this machine is meant",
        )


def _add_tool_commands(commands: _Commands) -> None:
    command = commands.add_parser("build", help="build the Go programs that are missing from the cache")
    command.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of {', '.join(binaries.names())}; all if left out"
    )
    command.set_defaults(command=_build)

    command = commands.add_parser(
        "which", help="print where a program lies, and build it first if it is missing"
    )
    command.add_argument("name", metavar="NAME")
    command.set_defaults(command=_which)

    command = commands.add_parser(
        "apiserver", help="run only etcd and kube-apiserver, until the parent process ends"
    )
    command.add_argument(
        "--dir", type=Path, required=True, help="a folder that does not exist yet; it is removed again"
    )
    command.add_argument(
        "--owner", type=int, default=os.getppid(), help="the process to end with (default: the parent)"
    )
    command.set_defaults(command=_apiserver)


def _up(options: argparse.Namespace) -> None:
    cluster.up(_instance(options), nodes=options.nodes, fake_gpus=options.fake_gpus)


def _down(options: argparse.Namespace) -> None:
    if not cluster.down(_instance(options)):
        sys.stderr.write("there is no cluster to remove\n")


def _status(options: argparse.Namespace) -> int:
    found = cluster.status(_instance(options))
    if found is None:
        _print("no cluster is up")
        return 1
    for name, pid in found.programs.items():
        _print(f"{name:<28} {'down' if pid is None else f'running, pid {pid}'}")
    for name, ready in found.nodes.items():
        _print(f"{name:<28} {'Ready' if ready else 'not Ready'}")
    if not found.is_whole:
        _print("something is missing; `up` mends it")
    return 0 if found.is_whole else 1


def _kubeconfig(options: argparse.Namespace) -> None:
    _print(str(cluster.kubeconfig(_instance(options))))


def _registry(options: argparse.Namespace) -> None:
    _print(cluster.start_registry(_instance(options)).registry)


def _instance(options: argparse.Namespace) -> str:
    return check_instance_name(options.instance)


def _build(options: argparse.Namespace) -> None:
    build.ensure(options.names or binaries.names())


def _which(options: argparse.Namespace) -> None:
    _print(str(build.ensure([options.name])[options.name]))


def _apiserver(options: argparse.Namespace) -> None:
    with apiserver.running(options.dir.absolute()) as server:
        _print(server.to_json())
        apiserver.wait_for_owner(options.owner)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
