"""Asks the pods for the tokens that they have spent on each client."""

import asyncio
from collections.abc import Iterable
from typing import Annotated, Any, Final

import aiohttp
from pydantic import BaseModel, Field, ValidationError

from fettle_router.allowance import WINDOW_S, Reading
from fettle_router.slots import Endpoint

__all__ = ["Readings"]

TIMEOUT_S: Final = 2.0
_AT_ONCE: Final = 32

_Pair = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2, max_length=2)]


class _Told(BaseModel):
    """The answer of a pod to `GET /usage`, as far as it is read."""

    clients: dict[str, list[_Pair]]


class Readings:
    """The newest answer of every pod; that of a pod which does not answer now, or has gone, until it is too old."""

    def __init__(self) -> None:
        self._last: dict[Endpoint, Reading] = {}

    def all(self) -> list[Reading]:
        """Return what is known."""
        return list(self._last.values())

    async def refresh(self, http: aiohttp.ClientSession, pods: Iterable[Endpoint], now_s: float) -> None:
        """Ask all pods, a few at a time."""
        wanted = set(pods)
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def read(pod: Endpoint) -> tuple[Endpoint, Reading | None]:
            async with at_once:
                return pod, await _read(http, pod, now_s)

        answers = await asyncio.gather(*(read(pod) for pod in wanted))
        kept = {pod: reading for pod, reading in self._last.items() if now_s - reading.at_s < WINDOW_S}
        self._last = kept | {pod: reading for pod, reading in answers if reading is not None}


async def _read(http: aiohttp.ClientSession, pod: Endpoint, now_s: float) -> Reading | None:
    host = f"[{pod.address}]" if ":" in pod.address else pod.address
    url = f"http://{host}:{pod.port}/usage"
    try:
        async with http.get(url, timeout=aiohttp.ClientTimeout(TIMEOUT_S), allow_redirects=False) as answer:
            if answer.status != 200:
                return None
            told = _Told.model_validate_json(await answer.read())
    except (aiohttp.ClientError, OSError, TimeoutError, ValidationError):
        return None
    used: dict[str, Any] = {
        client: [(age, count) for age, count in pairs] for client, pairs in told.clients.items()
    }
    return Reading(now_s, used)
