"""Measure the model server's engine: adapters mixed in one batch, beside ways that do not mix them.

`$(scripts/model_venv.sh) benchmarks/server/run.py` prints a table of tokens per second and time to the first token for
1, 8 and 32 clients whose requests go to four adapters in turn.
"""

# ruff: noqa: INP001, T201, E402 - a program for people, no package; what it imports lies in source folders

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / part) for part in ("server/src", "trainer/src", "tests/support")]
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList

from fettle_server.engine.engine import Engine, EngineSettings
from fettle_server.engine.lora_bank import LoraBank
from fettle_server.engine.types import Sampling
from server_engine import serve
from server_releases import Release, release
from tiny_models import tiny_model

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

PROMPT_TOKENS = 48
ADAPTERS = 4


class Workload(NamedTuple):
    """What is asked: each client sends its requests one after the other."""

    base: Path
    releases: list[Release]
    clients: int
    requests: int
    new_tokens: int

    def prompt(self, number: int) -> list[int]:
        """Return a prompt of its own for each request."""
        chance = torch.Generator().manual_seed(number)
        found: list[int] = torch.randint(20, 380, (PROMPT_TOKENS,), generator=chance).tolist()
        return found


class Measured(NamedTuple):
    """One answer."""

    first_s: float
    tokens: int


async def load(work: Workload, ask: Callable[[int, int], Awaitable[Measured]]) -> tuple[float, float]:
    """Let the clients ask; return tokens per second and the median time to the first token."""

    async def client(number: int) -> list[Measured]:
        return [
            await ask((number + turn) % ADAPTERS, number * work.requests + turn)
            for turn in range(work.requests)
        ]

    begin = time.perf_counter()
    answers = [answer for own in await asyncio.gather(*map(client, range(work.clients))) for answer in own]
    elapsed = time.perf_counter() - begin
    return sum(answer.tokens for answer in answers) / elapsed, median(answer.first_s for answer in answers)


async def with_engine(work: Workload) -> tuple[float, float]:
    """Measure the engine as it is."""
    engine = Engine(
        EngineSettings(work.base, work.releases[0].folder.parent, threads=torch.get_num_threads())
    )
    await engine.start()
    await serve(engine, *(found.spec(str(number)) for number, found in enumerate(work.releases)))
    for number in range(ADAPTERS):
        engine.text_of(str(number)).stop_ids = frozenset()  # every answer is as long as every other

    async def ask(adapter: int, number: int) -> Measured:
        begin = time.perf_counter()
        first, tokens = 0.0, 0
        async for chunk in engine.generate(
            str(adapter), work.prompt(number), Sampling(work.new_tokens, temperature=0)
        ):
            first = first or time.perf_counter() - begin
            tokens += len(chunk.tokens)
        return Measured(first, tokens)

    await load(work._replace(requests=1), ask)
    result = await load(work, ask)
    await engine.stop(0)
    return result


async def with_lanes_apart(work: Workload) -> tuple[float, float]:
    """Measure the engine with one forward per adapter, as an engine that cannot mix them would have to."""
    with patch.object(LoraBank, "mixes", lambda *_: False):
        return await with_engine(work)


async def with_generate(work: Workload) -> tuple[float, float]:
    """Measure transformers and PEFT: all that waits for one adapter is one batch, then comes the next adapter."""
    model: Any = AutoModelForCausalLM.from_pretrained(work.base)
    for number, found in enumerate(work.releases):
        if number == 0:
            model = PeftModel.from_pretrained(model, found.folder, adapter_name="0")
        else:
            model.load_adapter(found.folder, adapter_name=str(number))
    model.eval().generation_config.eos_token_id = None
    lines: list[list[tuple[int, asyncio.Future[Measured], float]]] = [[] for _ in range(ADAPTERS)]

    async def ask(adapter: int, number: int) -> Measured:
        future: asyncio.Future[Measured] = asyncio.get_running_loop().create_future()
        lines[adapter].append((number, future, time.perf_counter()))
        return await future

    async def turns() -> None:
        while True:
            for adapter, line in enumerate(lines):
                batch, line[:] = list(line), []
                if not batch:
                    await asyncio.sleep(0)
                    continue
                model.set_adapter(str(adapter))
                clock = _First()
                ids = torch.tensor([work.prompt(number) for number, _, _ in batch])
                await asyncio.to_thread(
                    model.generate,
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=work.new_tokens,
                    do_sample=False,
                    stopping_criteria=StoppingCriteriaList([clock]),
                )
                for _, future, asked in batch:
                    future.set_result(Measured((clock.at or asked) - asked, work.new_tokens))

    server = asyncio.create_task(turns())
    await load(work._replace(requests=1), ask)
    result = await load(work, ask)
    server.cancel()
    return result


class _First(StoppingCriteria):  # type: ignore[misc]  # transformers is Any here
    at: float | None = None

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:  # noqa: ARG002 - the interface
        self.at = self.at or time.perf_counter()
        return torch.zeros(len(input_ids), dtype=torch.bool)


CONTENDERS: dict[str, Callable[[Workload], Coroutine[Any, Any, tuple[float, float]]]] = {
    "mixed": with_engine,
    "a forward per adapter": with_lanes_apart,
    "one adapter at a time (generate)": with_generate,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--requests", type=int, default=4, help="of each client")
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1, help="for so small a model one is best")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"\nload before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, {options.threads} threads\n")
    print("| clients | contender | tokens/s | median time to first token, ms |")
    print("|---|---|---|---|")
    with TemporaryDirectory() as name:
        base = tiny_model("llama", Path(name) / "base")
        releases = [release(base, Path(name), f"adapter-{seed}", seed=seed) for seed in range(ADAPTERS)]
        for clients in options.clients:
            work = Workload(base, releases, clients, options.requests, options.new_tokens)
            for contender, measure in CONTENDERS.items():
                rate, first = asyncio.run(measure(work))
                print(f"| {clients} | {contender} | {rate:,.0f} | {first * 1000:.1f} |", flush=True)


if __name__ == "__main__":
    main()
