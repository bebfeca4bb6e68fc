"""The one place where devcluster runs other programs and waits for them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def run(
    command: Sequence[str | Path],
    *,
    stdin: str | None = None,
    check: bool = True,
    timeout_s: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and return it with its output; a failure names the command and its last words."""
    argv = [str(part) for part in command]
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise DevclusterError(
            f"the program {argv[0]!r} is not installed; install it and run the command again"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise DevclusterError(f"`{' '.join(argv)}` did not end within {timeout_s:.0f} s") from error
    if check and done.returncode != 0:
        raise DevclusterError(
            f"`{' '.join(argv)}` failed with exit code {done.returncode}: {last_words(done.stderr or done.stdout)}"
        )
    return done


def output(command: Sequence[str | Path], *, timeout_s: float = 120) -> str:
    """Run a command and return what it printed, without the last newline."""
    return run(command, timeout_s=timeout_s).stdout.rstrip("\n")


def last_words(text: str, lines: int = 5) -> str:
    """Return the end of a program's output, on one line, for an error message."""
    return " | ".join(line.strip() for line in text.strip().splitlines()[-lines:]) or "(it said nothing)"
