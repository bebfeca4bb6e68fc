"""What a router costs: CPU per request, added time, streams per core and memory, of this one and of others.

Needs haproxy and wrk on PATH, nginx for its row, and the router's package:
`PYTHONPATH=router/src:tests/support .venv/bin/python benchmarks/router/run.py`. LiteLLM is installed into an environment of its own.

The contenders take turns, so that whatever else the machine does meets all of them. CPU is that of the contender's own
processes; on a busy machine it is steadier than requests per second, which are shown as well.
"""

# ruff: noqa: INP001, T201 - a program for people, no package

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from contenders import KEY, PLAIN_HAPROXY, Contender, MissingError, contenders, running, started
from meter import Load, WrongAnswersError, cpu_s, load, memory_mib
from streams import TOKENS_PER_SECOND, listen

from free_ports import free_port

DIRECT = "no proxy"
_MESSAGE = {"role": "assistant", "content": "y" * 400}
_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
_CHOICE = {"index": 0, "message": _MESSAGE, "finish_reason": "stop"}
ANSWER = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "bot",
        "choices": [_CHOICE],
        "usage": _USAGE,
    }
)


@dataclass
class Row:
    """What was seen of one contender."""

    busy: list[Load] = field(default_factory=list)
    alone: list[Load] = field(default_factory=list)
    chunk_us: float = 0.0
    """CPU time per event of a stream."""
    idle_mib: float = 0.0
    streaming_mib: float = 0.0
    missing: str = ""


def main() -> int:
    """Measure and print."""
    options = _options()
    rows = {contender.name: Row() for contender in contenders()} | {DIRECT: Row()}
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="fettle-bench-") as name:
        folder = Path(name)
        _measure_requests(folder, options, rows)
        _measure_streams(folder, options, rows)
    _print(rows)
    return 0


def _measure_requests(folder: Path, options: argparse.Namespace, rows: dict[str, Row]) -> None:
    backend = free_port()
    home = folder / "stand-in"
    home.mkdir()
    fixed = f"    http-request return status 200 content-type application/json string '{ANSWER}'\n"
    (home / "haproxy.cfg").write_text(PLAIN_HAPROXY.format(port=backend) + fixed)
    with contextlib.ExitStack() as stack:
        stand_in = ["haproxy", "-db", "-f", str(home / "haproxy.cfg")]
        process = stack.enter_context(started(stand_in, backend, 10, home))
        running_now = {DIRECT: (backend, process.pid)}
        for contender in contenders():
            try:
                running_now[contender.name] = stack.enter_context(
                    running(contender, folder / "requests" / contender.folder, backend)
                )
            except MissingError as error:
                rows[contender.name].missing = str(error)
        for _ in range(options.rounds):
            for name, (port, pid) in running_now.items():
                _one_round(rows[name], port, pid, folder, options)
        for name, (_, pid) in running_now.items():
            rows[name].idle_mib = memory_mib(pid)


def _one_round(row: Row, port: int, pid: int, folder: Path, options: argparse.Namespace) -> None:
    try:
        row.busy.append(load(port, pid, folder, connections=options.connections, seconds=options.seconds))
        row.alone.append(load(port, pid, folder, connections=1, seconds=options.seconds))
    except WrongAnswersError as error:
        row.missing = str(error)


def _measure_streams(folder: Path, options: argparse.Namespace, rows: dict[str, Row]) -> None:
    backend = free_port()
    home = folder / "streams"
    home.mkdir()
    stand_in = [sys.executable, str(Path(__file__).with_name("streams.py")), str(backend)]
    with started(stand_in, backend, 10, home):
        for contender in contenders():
            if not rows[contender.name].missing:
                _streams_through(contender, folder / "streaming" / contender.folder, backend, options, rows)


def _streams_through(
    contender: Contender, folder: Path, backend: int, options: argparse.Namespace, rows: dict[str, Row]
) -> None:
    with running(contender, folder, backend) as (port, pid):
        asyncio.run(listen(port, KEY, streams=2, seconds=1))
        before = cpu_s(pid)
        events, memory = asyncio.run(_listen_and_look(port, pid, options))
        rows[contender.name].chunk_us = (cpu_s(pid) - before) / events * 1e6
        rows[contender.name].streaming_mib = memory


async def _listen_and_look(port: int, pid: int, options: argparse.Namespace) -> tuple[int, float]:
    """Read the streams, and look at the memory in the middle of them."""
    listening = asyncio.create_task(
        listen(port, KEY, streams=options.streams, seconds=options.stream_seconds)
    )
    await asyncio.sleep(options.stream_seconds / 2)
    memory = memory_mib(pid)
    return await listening, memory


def _print(rows: dict[str, Row]) -> None:
    print(
        "| | CPU per request | of HAProxy without rules | requests/s per core | added p50 | added p99 |",
        end="",
    )
    print(" CPU per event | streams per core | memory, idle | with streams |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    direct = rows.pop(DIRECT)
    bare = next(iter(rows.values()))
    for name, row in rows.items():
        print(f"| {name} | {_cells(row, bare, direct)} |")


def _cells(row: Row, bare: Row, direct: Row) -> str:
    if row.missing:
        return f"not measured: {row.missing}"
    cpu = statistics.median(each.cpu_us for each in row.busy)
    ratios = [one.cpu_us / other.cpu_us for one, other in zip(row.busy, bare.busy, strict=False)]
    p50, p99 = (
        statistics.median(
            getattr(one, name) - getattr(other, name)
            for one, other in zip(row.alone, direct.alone, strict=False)
        )
        for name in ("p50_us", "p99_us")
    )
    streams = 1e6 / (row.chunk_us * TOKENS_PER_SECOND) if row.chunk_us else 0
    return " | ".join(
        [
            f"{cpu:,.0f} µs",
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
            f"{1e6 / cpu:,.0f}",
            f"{p50 / 1000:.2f} ms",
            f"{p99 / 1000:.2f} ms",
            f"{row.chunk_us:,.0f} µs",
            f"{streams:,.0f}",
            f"{row.idle_mib:,.0f} MiB",
            f"{row.streaming_mib:,.0f} MiB",
        ]
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4, help="of load in a round, twice for each contender")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--stream-seconds", type=int, default=8)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
