"""The one place where this package runs other programs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clusters.errors import ClustersError

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY = Path(__file__).resolve().parent.parent


def find(name: str) -> str:
    """Return the path of a tool: the one on PATH, else the build of it that the embedded cluster uses."""
    return shutil.which(name) or pinned(name)


def pinned(name: str) -> str:
    """Return the path of the build of a tool that the embedded cluster uses, whatever is on PATH."""
    return ask([sys.executable, "-m", "devcluster", "which", name])


def ask(command: Sequence[str | Path], *, stdin: str | None = None, timeout_s: float = 900) -> str:
    """Run a command and return what it printed; a failure names the command and its last words."""
    done = _run(command, stdin=stdin, timeout_s=timeout_s, capture=True)
    if done.returncode != 0:
        last = " | ".join(line.strip() for line in done.stderr.strip().splitlines()[-3:])
        raise ClustersError(
            f"`{_text(command)}` failed with exit code {done.returncode}: {last or 'it said nothing'}"
        )
    return done.stdout.strip()


def call(command: Sequence[str | Path], *, timeout_s: float = 1800) -> int:
    """Run a command with its output going to the terminal, and return its exit code."""
    return _run(command, stdin=None, timeout_s=timeout_s, capture=False).returncode


def must(command: Sequence[str | Path]) -> None:
    """Run a command with its output going to the terminal; a failure ends the work."""
    code = call(command)
    if code != 0:
        raise ClustersError(f"`{_text(command)}` failed with exit code {code}; its output is above")


def answers(command: Sequence[str], *, timeout_s: float = 10) -> bool:
    """Return whether a program exists, ends in time and reports success."""
    try:
        return _run(command, stdin=None, timeout_s=timeout_s, capture=True).returncode == 0
    except ClustersError:
        return False


def _run(
    command: Sequence[str | Path], *, stdin: str | None, timeout_s: float, capture: bool
) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [str(part) for part in command],
            input=stdin,
            capture_output=capture,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd=REPOSITORY,
        )
    except OSError as error:
        raise ClustersError(f"the program {command[0]} cannot be run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ClustersError(f"`{_text(command)}` did not end within {timeout_s:.0f} s") from error


def _text(command: Sequence[str | Path]) -> str:
    return " ".join(str(part) for part in command)
