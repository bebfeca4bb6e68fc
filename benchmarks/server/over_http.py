"""Measure whole servers over HTTP: ours beside `transformers serve`, asked by the same clients for the same streams.

`$(scripts/model_venv.sh) benchmarks/server/over_http.py` prints tokens per second and the time to the first token for 1, 8
and 32 clients. `transformers serve` has no adapters, so ours is asked for its base model as well as for four of them.
"""

# ruff: noqa: INP001, T201, E402 - a program for people, no package; what it imports lies in source folders

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import time
from asyncio.subprocess import DEVNULL
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [str(ROOT / part) for part in ("server/src", "trainer/src", "tests/support")]
sys.path[:0] = SOURCES
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import aiohttp

from free_ports import free_port
from server_releases import release
from tiny_models import tiny_model

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ADAPTERS = 4
PATIENCE_S = 120


class Contender(NamedTuple):
    """A server, and the models that it is asked for in turn."""

    name: str
    command: list[str]
    """Without the port, which comes last."""
    models: list[str]


class Seen(NamedTuple):
    """One answer."""

    first_s: float
    tokens: int


def main() -> None:
    """Print the table."""
    options = _options()
    print(
        f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {options.threads or 'their own choice of'} threads\n"
    )
    print("| clients | server | tokens/s | median time to first token, ms |\n|---|---|---|---|", flush=True)
    with TemporaryDirectory() as name:
        for contender in _contenders(Path(name)):
            asyncio.run(_measure(contender, options))


def _contenders(folder: Path) -> list[Contender]:
    base = tiny_model("llama", folder / "base")
    releases = [release(base, folder, f"adapter-{seed}", seed=seed) for seed in range(ADAPTERS)]
    wanted = [
        {"revision": found.folder.name, "digest": found.digest, "path": found.folder.name}
        for found in releases
    ]
    (folder / "adapters.json").write_text(json.dumps({"adapters": wanted}))
    ours = [sys.executable, "-m", "fettle_server", "--base", str(base), "--adapters-root", str(folder)]
    ours += [
        "--adapters",
        str(folder / "adapters.json"),
        "--model-name",
        "bot",
        "--log-level",
        "error",
        "--port",
    ]
    theirs = [str(Path(sys.executable).with_name("transformers")), "serve", str(base)]
    return [
        Contender("this server, its base model", ours, ["bot"]),
        Contender("this server, four adapters", ours, [found.folder.name for found in releases]),
        Contender("transformers serve", [*theirs, "--port"], [str(base)]),
        Contender(
            "transformers serve --continuous-batching",
            [*theirs, "--continuous-batching", "--port"],
            [str(base)],
        ),
    ]


async def _measure(contender: Contender, options: argparse.Namespace) -> None:
    try:
        async with _running(contender, options.threads) as http:
            await _load(http, contender.models, 2, 1, 8)
            for clients in options.clients:
                rate, first = await _load(
                    http, contender.models, clients, options.requests, options.new_tokens
                )
                print(f"| {clients} | {contender.name} | {rate:,.0f} | {first * 1000:,.1f} |", flush=True)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        print(
            f"| | {contender.name} | not measured: {str(error)[:200] or type(error).__name__} | |", flush=True
        )


@contextlib.asynccontextmanager
async def _running(contender: Contender, threads: int | None) -> AsyncIterator[aiohttp.ClientSession]:
    port = free_port()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(SOURCES)}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    process = await asyncio.create_subprocess_exec(
        *contender.command, str(port), env=environment, stdout=DEVNULL, stderr=DEVNULL
    )
    try:
        timeout = aiohttp.ClientTimeout(600)
        connector = aiohttp.TCPConnector(limit=0)
        url = f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession(url, timeout=timeout, connector=connector) as http:
            await _wait(http, process, contender.models)
            yield http
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _wait(http: aiohttp.ClientSession, process: asyncio.subprocess.Process, models: list[str]) -> None:
    """Wait until every model has answered once."""
    deadline = time.monotonic() + PATIENCE_S
    for model in models:
        while True:
            if process.returncode is not None or time.monotonic() > deadline:
                raise ValueError("it did not start")
            with contextlib.suppress(aiohttp.ClientError, ValueError):
                await _ask(http, model, 0, 1)
                break
            await asyncio.sleep(0.2)


async def _load(
    http: aiohttp.ClientSession, models: list[str], clients: int, requests: int, new_tokens: int
) -> tuple[float, float]:
    """Let the clients ask, each one request after the other; return tokens per second and the first token's time."""

    async def client(number: int) -> list[Seen]:
        return [
            await _ask(http, models[(number + turn) % len(models)], number * requests + turn, new_tokens)
            for turn in range(requests)
        ]

    begin = time.perf_counter()
    answers = [answer for own in await asyncio.gather(*map(client, range(clients))) for answer in own]
    elapsed = time.perf_counter() - begin
    return sum(answer.tokens for answer in answers) / elapsed, median(answer.first_s for answer in answers)


async def _ask(http: aiohttp.ClientSession, model: str, number: int, new_tokens: int) -> Seen:
    words = " ".join(f"w{number * 7 + place}" for place in range(8))
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": words}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "max_tokens": new_tokens,
        "temperature": 1.0,
        "seed": number,
    }
    begin, first, tokens = time.perf_counter(), 0.0, -1
    async with http.post("/v1/chat/completions", json=body) as answer:
        if answer.status != 200:
            raise ValueError(f"{answer.status}: {await answer.text()}")
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            event = json.loads(line[6:])
            if not first and any(choice["delta"].get("content") for choice in event["choices"]):
                first = time.perf_counter() - begin
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    if tokens < 0:
        raise ValueError("an answer without usage")
    return Seen(first or time.perf_counter() - begin, tokens)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=4, help="of each client")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, help="for every server; without it each chooses for itself")
    return parser.parse_args()


if __name__ == "__main__":
    main()
