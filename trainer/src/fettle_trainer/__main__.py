"""The trainer's command line.

Exit codes: 0 done, 2 the adapter, the data or the settings are wrong (a retry changes nothing), 1 the work could not
be completed (a retry may help).
"""

from __future__ import annotations

import argparse
import sys

from fettle_trainer.commands import check, seal, verify


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m fettle_trainer", description="Fettle's fine-tuning engine."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in (check, verify, seal):
        command.add_parser(commands)
    parsed = parser.parse_args(arguments)
    code: int = parsed.run_command(parsed)
    return code


if __name__ == "__main__":
    sys.exit(main())
