"""Operators that are forked off a process which has imported everything: a crash sweep starts hundreds of them.

What runs is the operator's own `main`, in a process of its own; only the second of imports before it is saved.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.forkserver import ensure_running
from pathlib import Path
from typing import Any

__all__ = ["WarmProcess"]

_MODULE = "fettle_operator.__main__"


class WarmProcess:
    """A running operator, with as much of a subprocess.Popen as is needed of one."""

    def __init__(self, arguments: Sequence[str], log: Path, python_path: str) -> None:
        # Daemonic: whatever becomes of the tests, it goes with them.
        self._process: Any = _context(python_path).Process(
            target=_operate, args=(tuple(arguments), str(log)), daemon=True
        )
        self._process.start()
        self.pid: int = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        code: int | None = self._process.exitcode
        return code

    def wait(self, timeout: float) -> int:
        """Wait for the end and return the exit code."""
        self._process.join(timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(_MODULE, timeout)
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal, if there is still somebody to get it."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)


def _context(python_path: str) -> Any:
    """Return the way to fork, whose server is started with the operator's sources in reach."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([_MODULE])
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = python_path
    try:
        ensure_running()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before
    return context


def _operate(arguments: tuple[str, ...], log: str) -> None:
    """Be the operator from here on."""
    from fettle_operator.__main__ import main  # noqa: PLC0415 - in the child; the server has it imported already

    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    sys.argv = ["fettle-operator", *arguments]
    main()
