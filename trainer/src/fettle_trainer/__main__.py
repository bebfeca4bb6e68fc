"""The trainer's command line.

Exit codes: 0 done, 2 the adapter, the data or the settings are wrong (a retry changes nothing), 1 the work could not
be completed (a retry may help).
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Final

COMMANDS: Final = ("check", "verify", "seal")


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    parser = argparse.ArgumentParser(
        prog="python -m fettle_trainer", description="Fettle's fine-tuning engine."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    # Only the named command is imported: `verify` runs in an image that has nothing but pydantic.
    for name in words[:1] if words and words[0] in COMMANDS else COMMANDS:
        importlib.import_module(f"fettle_trainer.commands.{name}").add_parser(commands)
    parsed = parser.parse_args(words)
    code: int = parsed.run_command(parsed)
    return code


if __name__ == "__main__":
    sys.exit(main())
