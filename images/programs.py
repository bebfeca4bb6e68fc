"""The one place where this package runs other programs and reports on the long ones."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from images.errors import ImagesError

if TYPE_CHECKING:
    from collections.abc import Sequence

REPOSITORY = Path(__file__).resolve().parent.parent
LOGS = REPOSITORY / "build" / "logs"
_HEARTBEAT_S = 20.0
_LAST_WORDS = 15


def say(text: str) -> None:
    """Print one line of progress."""
    sys.stderr.write(f"images: {text}\n")
    sys.stderr.flush()


def ask(command: Sequence[str | Path]) -> str:
    """Run a short command and return what it printed."""
    done = _run(command)
    if done.returncode != 0:
        last = " | ".join(line.strip() for line in done.stderr.strip().splitlines()[-3:])
        raise ImagesError(
            f"`{_text(command)}` failed with exit code {done.returncode}: {last or 'it said nothing'}"
        )
    return done.stdout.strip()


def succeeds(command: Sequence[str | Path]) -> bool:
    """Run a short command and return whether it reported success."""
    return _run(command).returncode == 0


def work(title: str, command: Sequence[str | Path]) -> float:
    """Run a long command with its output in a log, say now and then where it is, and return the seconds it took."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"image-{title.replace(' ', '-')}.log"
    started = time.monotonic()
    say(f"{title}: started (log: {log.relative_to(REPOSITORY)})")
    with log.open("w") as stream:
        process = subprocess.Popen(
            [str(part) for part in command], stdout=stream, stderr=subprocess.STDOUT, cwd=REPOSITORY
        )
        try:
            _wait(title, process, log, started)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    seconds = time.monotonic() - started
    if process.returncode != 0:
        raise ImagesError(
            f"{title} failed with exit code {process.returncode}; the end of {log.relative_to(REPOSITORY)}:\n{_tail(log)}"
        )
    say(f"{title}: done in {seconds:.0f} s")
    return seconds


def _wait(title: str, process: subprocess.Popen[bytes], log: Path, started: float) -> None:
    while True:
        try:
            process.wait(timeout=_HEARTBEAT_S)
        except subprocess.TimeoutExpired:
            say(f"{title}: {time.monotonic() - started:.0f} s, at: {_tail(log, lines=1)[:100]}")
        else:
            return


def _run(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, check=False, cwd=REPOSITORY
        )
    except FileNotFoundError as error:
        raise ImagesError(f"the program {command[0]} is not installed") from error


def _tail(log: Path, lines: int = _LAST_WORDS) -> str:
    return "\n".join(log.read_text(errors="replace").strip().splitlines()[-lines:])


def _text(command: Sequence[str | Path]) -> str:
    return " ".join(str(part) for part in command)
