"""A stand-in for vLLM under uvicorn with the layer in it, as vLLM would have it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import uvicorn
from openai import AsyncOpenAI

from adapter_files import write_adapter
from asgi_calls import until
from fettle_server.vllm.arguments import VllmRuntime, environment
from fettle_server.vllm.middleware import FettleLayer
from fettle_trainer.adapter.verify import verify_adapter
from vllm_stand_in import StandIn

TOKEN = "operators-own"
OPERATOR = {"authorization": f"Bearer {TOKEN}"}


@dataclass
class Running:
    """The server, and the two who speak to it."""

    url: str
    vllm: StandIn
    root: Path
    http: aiohttp.ClientSession
    openai: AsyncOpenAI
    operator: dict[str, str]

    def adapter(self, name: str, **changes: Any) -> dict[str, str]:
        """Write an adapter; return how the operator asks for it."""
        folder = write_adapter(self.root / name, config_changes=changes)
        return {"revision": name, "digest": verify_adapter(folder).digest, "path": name}

    async def put(self, *wanted: dict[str, str]) -> list[dict[str, Any]]:
        async with self.http.put("/adapters", json={"adapters": list(wanted)}, headers=OPERATOR) as reply:
            assert reply.status == 200, await reply.text()
            shown: list[dict[str, Any]] = (await reply.json())["adapters"]
            return shown

    async def shown(self) -> dict[str, dict[str, Any]]:
        async with self.http.get("/adapters", headers=OPERATOR) as reply:
            return {entry["revision"]: entry for entry in (await reply.json())["adapters"]}

    async def settled(self, **wanted: str) -> None:
        """Wait until the adapters stand as they should; underscores in names stand for hyphens."""
        expected = {name.replace("_", "-"): state for name, state in wanted.items()}

        async def stand() -> bool:
            return {name: entry["state"] for name, entry in (await self.shown()).items()} == expected

        await until(stand)

    async def refusal(self, name: str) -> tuple[str, str]:
        """Wait until an adapter is refused; return the word and the sentence."""

        async def refused() -> bool:
            return (await self.shown()).get(name, {}).get("state") == "Refused"

        await until(refused)
        entry = (await self.shown())[name]
        return entry["reason"], entry["message"]

    async def series(self, start: str) -> dict[str, float]:
        """Return the lines that begin so."""
        async with self.http.get("/metrics") as reply:
            lines = (await reply.text()).splitlines()
        found = [line for line in lines if line.startswith(start) and not line.startswith("#")]
        return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in found}


@pytest.fixture
def runtime(tmp_path: Path) -> VllmRuntime:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    root = tmp_path / "adapters"
    root.mkdir()
    return VllmRuntime(
        model=tmp_path / "base",
        model_name="bot",
        base_revision="base-1",
        adapters_root=root,
        admin_token_file=tmp_path / "token",
        max_adapters=3,
        max_concurrent_requests=4,
        max_queued_requests=2,
    )


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


@pytest.fixture
async def running(runtime: VllmRuntime, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    for name, value in environment(runtime).items():
        monkeypatch.setenv(name, value)
    vllm = StandIn()
    app = vllm.app()
    app.add_middleware(FettleLayer)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
    with listening() as place:
        task = asyncio.create_task(server.serve([place]))
        await until(lambda: server.started)
        url = f"http://127.0.0.1:{place.getsockname()[1]}"
        async with (
            aiohttp.ClientSession(url) as http,
            AsyncOpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0, timeout=30) as openai,
        ):
            yield Running(url, vllm, runtime.adapters_root, http, openai, OPERATOR)
        vllm.go.set()
        server.should_exit = True
        await task
