"""The commands of devcluster: parse, call, print."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import apiserver, binaries, build
from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an error is one sentence on stderr and exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except DevclusterError as error:
        sys.stderr.write(f"devcluster: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("devcluster: interrupted; run the same command again to go on\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m devcluster", description="A real Kubernetes on one machine."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

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
    return parser


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
