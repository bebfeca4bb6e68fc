"""What the router's rules cost: CPU of HAProxy per request, with them and without, on the same machine in one run.

Needs haproxy and wrk on PATH and the router's package: `PYTHONPATH=router/src python benchmarks/router/run.py`.
The two proxies take turns, so that whatever else the machine does meets both. CPU is read from the proxy's own
process; on a busy machine it is steadier than requests per second, which are shown as well.
"""

# ruff: noqa: INP001, T201 - a program for people, no package

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fettle_router import files
from fettle_router.layout import Layout
from fettle_router.render import render
from fettle_router.slots import Endpoint, assign
from fettle_router.table import parse

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-benchmark"
ROUNDS = 5
SECONDS = 4
CONNECTIONS = 16
QUESTION = json.dumps({"model": "bot", "messages": [{"role": "user", "content": "x" * 1500}]})
ANSWER = json.dumps({"object": "chat.completion", "choices": [{"message": {"content": "y" * 400}}]})

COMMON = """
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 2s
    timeout client 60s
    timeout server 60s
frontend in
    bind 127.0.0.1:{port}
"""


@dataclass(frozen=True)
class Round:
    """One measurement."""

    cpu_us: float
    """CPU time of the proxy per request, in microseconds."""
    per_second: float


def main() -> int:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="fettle-bench-") as folder:
        backend, bare, router = _free_ports(3)
        _write(Path(folder, "backend"), COMMON.format(port=backend) + _fixed_answer())
        _write(Path(folder, "bare"), COMMON.format(port=bare) + _pass_on(backend))
        _render(Path(folder, "router"), router, backend)
        script = Path(folder, "post.lua")
        script.write_text(_lua())
        with (
            _haproxy(Path(folder, "backend")),
            _haproxy(Path(folder, "bare")) as one,
            _haproxy(Path(folder, "router")) as other,
        ):
            rounds = [(_measure(one, bare, script), _measure(other, router, script)) for _ in range(ROUNDS)]
    _print(rounds)
    return 0


def _print(rounds: list[tuple[Round, Round]]) -> None:
    for name, column in (("bare HAProxy", 0), ("this router", 1)):
        cpu = statistics.median(pair[column].cpu_us for pair in rounds)
        rate = statistics.median(pair[column].per_second for pair in rounds)
        print(f"{name:14} {cpu:6.1f} us CPU per request  {rate:8.0f} requests/s")
    ratios = sorted(pair[1].cpu_us / pair[0].cpu_us for pair in rounds)
    print(
        f"ratio          {statistics.median(ratios):6.2f} (of {ROUNDS} rounds: {ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


def _measure(process: subprocess.Popen[bytes], port: int, script: Path) -> Round:
    before, began = _cpu_s(process.pid), time.monotonic()
    words = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{SECONDS}s",
        "-s",
        str(script),
        f"http://127.0.0.1:{port}/",
    ]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    elapsed, used = time.monotonic() - began, _cpu_s(process.pid) - before
    count, refused = (int(word) for word in done.stdout.splitlines()[-1].split())
    if refused:
        sys.exit(f"{refused} of {count} requests were not answered with 200; the measurement means nothing.")
    return Round(used / count * 1e6, count / elapsed)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _fixed_answer() -> str:
    return f"    http-request return status 200 content-type application/json string '{ANSWER}'\n"


def _pass_on(port: int) -> str:
    return f"    default_backend out\nbackend out\n    server s 127.0.0.1:{port}\n"


def _render(folder: Path, port: int, backend: int) -> None:
    metrics, _ = _free_ports(2)
    layout = Layout(folder, clients=f"127.0.0.1:{port}", metrics=f"127.0.0.1:{metrics}", threads=1)
    slots = {"pool": assign((), [Endpoint("127.0.0.1", backend)])}
    files.write(render(parse(json.dumps(_table())), slots, layout), layout)


def _table() -> dict[str, object]:
    limits = {"requestsPerMinute": 1_000_000_000, "concurrency": 1000}
    return {
        "version": 1,
        "deployment": "bot",
        "variantSalt": "v",
        "rolloutSalt": "r",
        "models": ["bot"],
        "pools": [{"name": "pool", "service": "pool"}],
        "revisions": [{"name": name, "pool": "pool"} for name in ("stable", "canary")],
        "arms": [
            {
                "name": "main",
                "bounds": {"first": 0, "last": 9999},
                "revision": "stable",
                "candidate": {"revision": "canary", "below": 1000},
            }
        ],
        "access": {"clients": [{"name": "bench", "keyHashes": [hashlib.sha256(KEY.encode()).hexdigest()]}]},
        "limits": limits,
    }


def _lua() -> str:
    return f"""
wrk.method, wrk.path, wrk.body = "POST", "/v1/chat/completions", [[{QUESTION}]]
wrk.headers["Content-Type"], wrk.headers["Authorization"] = "application/json", "Bearer {KEY}"
local n = 0
request = function()
  n = n + 1
  wrk.headers["x-session-id"] = "user-" .. n % 1000
  return wrk.format(nil, "/v1/chat/completions")
end
done = function(summary)
  io.write(summary.requests, " ", summary.errors.status + summary.errors.read + summary.errors.timeout, "\\n")
end
"""


def _write(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / "haproxy.cfg").write_text(text)


@contextlib.contextmanager
def _haproxy(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], stderr=subprocess.DEVNULL
    ) as process:
        port = next(
            int(line.split()[1].rpartition(":")[2]) for line in _lines(folder) if line.startswith("    bind ")
        )
        _wait_for(port)
        try:
            yield process
        finally:
            process.terminate()


def _lines(folder: Path) -> list[str]:
    return (folder / "haproxy.cfg").read_text().splitlines()


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    sys.exit(f"nothing listens on port {port} after 10 s.")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


if __name__ == "__main__":
    sys.exit(main())
