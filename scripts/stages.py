"""Runs named commands as a graph: what is independent runs side by side, each with a log of its own.

Standard library only: it runs before the virtual environment exists. Used by `make test` and `make demo`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

LOGS = Path("build/logs")
HEARTBEAT_S = 60.0


@dataclass(frozen=True)
class Stage:
    """One command; it starts when all stages in `after` have succeeded."""

    name: str
    command: tuple[str, ...]
    after: tuple[str, ...] = ()
    show: bool = False
    """Print the whole log when the stage is done (test results), not only when it failed."""


class StageFailed(Exception):
    """At least one stage failed; its log has been printed."""


def run(stages: list[Stage], *, at_once: int) -> None:
    """Run the graph; on the first failure nothing new starts, what runs is stopped, and StageFailed is raised."""
    _refuse_bad_graph(stages)
    LOGS.mkdir(parents=True, exist_ok=True)
    runner = _Runner(stages, at_once)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        runner.run()
    finally:
        runner.stop_all()


class _Runner:
    def __init__(self, stages: list[Stage], at_once: int) -> None:
        self._stages = {stage.name: stage for stage in stages}
        self._waiting = list(stages)
        self._at_once = at_once
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._done: set[str] = set()
        self._started: dict[str, float] = {}
        self._ended = threading.Condition()

    def run(self) -> None:
        last_sign = time.monotonic()
        while self._waiting or self._running:
            self._start_ready()
            with self._ended:
                self._ended.wait(timeout=1.0)
            for name, process in list(self._running.items()):
                if process.poll() is not None:
                    self._finish(name, process.returncode)
                    last_sign = time.monotonic()
            if time.monotonic() - last_sign > HEARTBEAT_S:
                last_sign = time.monotonic()
                self._say_what_runs()

    def stop_all(self) -> None:
        for process in self._running.values():
            if process.poll() is None:
                # The stage leads a process group of its own, so its children end with it.
                os.killpg(process.pid, signal.SIGTERM)
        for process in self._running.values():
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)

    def _start_ready(self) -> None:
        for stage in list(self._waiting):
            if len(self._running) >= self._at_once:
                return
            if self._done.issuperset(stage.after):
                self._waiting.remove(stage)
                self._start(stage)

    def _start(self, stage: Stage) -> None:
        print(f"▶ {stage.name}", flush=True)
        self._started[stage.name] = time.monotonic()
        with _log(stage.name).open("wb") as log:
            process = subprocess.Popen(
                stage.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running[stage.name] = process
        threading.Thread(target=self._notice_end, args=(process,), daemon=True).start()

    def _notice_end(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        with self._ended:
            self._ended.notify_all()

    def _finish(self, name: str, code: int) -> None:
        del self._running[name]
        seconds = time.monotonic() - self._started[name]
        stage = self._stages[name]
        if code != 0 or stage.show:
            print(_log(name).read_text(errors="replace"), flush=True)
        if code != 0:
            print(f"✘ {name} failed with {code} after {seconds:.0f} s (log: {_log(name)})", flush=True)
            raise StageFailed(name)
        print(f"✔ {name} {seconds:.0f} s", flush=True)
        self._done.add(name)

    def _say_what_runs(self) -> None:
        for name in self._running:
            lines = _log(name).read_text(errors="replace").strip().splitlines()
            print(f"… {name}: {lines[-1][:140] if lines else 'no output yet'}", flush=True)


def _log(name: str) -> Path:
    return LOGS / f"{name}.log"


def _refuse_bad_graph(stages: list[Stage]) -> None:
    seen: set[str] = set()
    for stage in stages:
        missing = set(stage.after) - seen
        if missing:
            raise ValueError(
                f"stage {stage.name} waits for {sorted(missing)}, which no earlier stage provides"
            )
        seen.add(stage.name)
