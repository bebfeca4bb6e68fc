"""The commands: parse, call, print."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from clusters.cli import chosen
from clusters.errors import ClustersError
from devcluster.paths import cache_root
from images import work
from images.catalog import IMAGES, select
from images.errors import ImagesError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; an error is one sentence on stderr and exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        options.command(options)
    except (ImagesError, ClustersError) as error:
        sys.stderr.write(f"images: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("images: interrupted; run the same command again to go on\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python3 -m images",
        description="Builds the images of Fettle's parts, only what changed.",
        epilog="FETTLE_BASE_IMAGE names another base image, FETTLE_TORCH_INDEX another index for torch.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = commands.add_parser("base", help="make the base image, where no registry can be reached")
    command.set_defaults(command=_base)

    command = commands.add_parser(
        "build", help="build what changed, write build/images.yaml for Helm, and print the images' full names"
    )
    command.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help=f"one of {', '.join(image.name for image in IMAGES)}; all if left out",
    )
    command.add_argument(
        "--push", action="store_true", help="push to the registry that the cluster pulls from"
    )
    command.set_defaults(command=_build)
    return parser


def _base(_: argparse.Namespace) -> None:
    work.make_base(_workshop())


def _build(options: argparse.Namespace) -> None:
    images = select(options.names)
    for reference in work.build(_workshop(), images, push=options.push):
        sys.stdout.write(f"{reference}\n")


def _workshop() -> work.Workshop:
    choice, _ = chosen()
    return work.open_workshop(choice, cache_root())
