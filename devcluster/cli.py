"""The commands of devcluster: parse, call, print."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from devcluster import binaries, build
from devcluster.errors import DevclusterError


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
    parser = argparse.ArgumentParser(prog="python3 -m devcluster", description="A real Kubernetes on one machine.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = commands.add_parser("build", help="build the Go programs that are missing from the cache")
    command.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(binaries.names())}; all if left out")
    command.set_defaults(command=_build)

    command = commands.add_parser("which", help="print where a program lies, and build it first if it is missing")
    command.add_argument("name", metavar="NAME")
    command.set_defaults(command=_which)
    return parser


def _build(options: argparse.Namespace) -> None:
    build.ensure(options.names or binaries.names())


def _which(options: argparse.Namespace) -> None:
    _print(str(build.ensure([options.name])[options.name]))


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")
