"""The process as Kubernetes sees it: settings, signals, exit codes and the log."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fettle_server.__main__ import main

DEADLINE_S = 120
LONG: dict[str, Any] = {
    "model": "tiny",
    "prompt": "A pod is",
    "temperature": 0,
    "max_tokens": 490,
    "n": 8,
    "stream": True,
}


class Process:
    """A running server and what it has logged."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self.log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "fettle_server", *arguments],
                stderr=file,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            )

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def until(self, condition: Callable[[], Any]) -> Any:
        """Return the first result of the condition that is true."""
        deadline = time.monotonic() + DEADLINE_S
        while not (found := condition()):
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.02)
        return found

    def port(self) -> int:
        told = self.until(lambda: [line for line in self.lines() if line["message"] == "listening"])
        found: int = told[0]["port"]
        return found


@pytest.fixture
def started(tiny: Callable[[str], Path], tmp_path: Path) -> Iterator[Process]:
    server = Process(
        [f"--base={tiny('qwen3')}", "--model-name=tiny", "--port=0", "--drain-seconds=60"], tmp_path / "log"
    )
    yield server
    server.process.kill()
    server.process.wait()


def status_of(url: str) -> tuple[int, str]:
    response = httpx.get(url)
    return response.status_code, response.json()["status"]


def test_sigterm_lets_running_answers_end_and_takes_no_new_ones(started: Process) -> None:
    url = f"http://127.0.0.1:{started.port()}"
    started.until(lambda: status_of(f"{url}/readyz") == (200, "ready"))
    with httpx.stream("POST", f"{url}/v1/completions", json=LONG, timeout=DEADLINE_S) as answer:
        events = (line for line in answer.iter_lines() if line)
        assert next(events).startswith("data: {")
        started.process.send_signal(signal.SIGTERM)
        started.until(lambda: status_of(f"{url}/readyz") == (503, "stopping"))
        assert status_of(f"{url}/healthz") == (200, "ok")
        refused = httpx.post(f"{url}/v1/completions", json={**LONG, "stream": False})
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "shutting_down")
        *said, last = events
    assert last == "data: [DONE]"
    reasons = [choice["finish_reason"] for event in said for choice in json.loads(event[6:])["choices"]]
    assert [reason for reason in reasons if reason] == ["length"] * 8
    assert started.process.wait(DEADLINE_S) == 0
    assert {line["level"] for line in started.lines()} == {"info"}


@pytest.fixture(autouse=True)
def other_tests_log() -> Iterator[None]:
    """Give the process's log back: `main` sends it to a stream that ends with the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_wrong_settings_are_told_before_anything_is_loaded(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--base=/nowhere"]) == 2
    assert capsys.readouterr().err == "fettle-server: --base: /nowhere is no folder.\n"


def test_a_folder_without_a_model_is_told_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([f"--base={tmp_path}", "--port=0"]) == 2
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines() if '"error"' in line]
    assert str(tmp_path) in line["message"]
    assert "traceback" not in line


def test_a_port_that_is_taken_is_told_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main([f"--base={tmp_path}", f"--port={port}"]) == 2
    assert f"127.0.0.1:{port} cannot be listened on: Address already in use." in capsys.readouterr().err
