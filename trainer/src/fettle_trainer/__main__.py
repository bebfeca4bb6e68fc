"""The trainer's command line.

The exit codes are those of fettle_trainer.config.exit_codes.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Final

COMMANDS: Final = ("fetch", "check", "train", "evaluate", "export", "make-base", "verify", "seal")


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="python -m fettle_trainer", description="Fettle's fine-tuning engine."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # Only the named command is imported: `verify` runs in an image that has nothing but pydantic.
    for name in words[:1] if words and words[0] in COMMANDS else COMMANDS:
        importlib.import_module(f"fettle_trainer.commands.{name.replace('-', '_')}").add_parser(commands)
    parsed = parser.parse_args(words)
    code: int = parsed.run_command(parsed)
    return code


if __name__ == "__main__":
    sys.exit(main())
