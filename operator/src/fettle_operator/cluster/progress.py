"""Asking a trainer pod how far it is: one fixed path on one fixed port, in bounded time and bytes."""

from types import TracebackType
from typing import Self

import aiohttp

from fettle_operator.finetune.configuration import PROGRESS_PORT

__all__ = ["HttpProgress"]

_TIMEOUT_S = 2.0
_BYTES_MAX = 65_536


class HttpProgress:
    """Reads GET /progress of pods; an asynchronous context manager. Whatever goes wrong is no answer."""

    def __init__(self, port: int = PROGRESS_PORT) -> None:
        self._port = port
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        # No proxy and no cookie: it only ever speaks to addresses inside the cluster.
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S),
            connector=aiohttp.TCPConnector(limit=16, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(self, address: str) -> bytes | None:
        """Return the document; None when the pod does not answer, or not with a document of usual size."""
        assert self._session is not None, "used outside its context"  # noqa: S101 - a bug of ours, not of a user
        host = f"[{address}]" if ":" in address else address
        try:
            async with self._session.get(
                f"http://{host}:{self._port}/progress", allow_redirects=False
            ) as reply:
                if reply.status != 200:
                    return None
                body = await reply.content.read(_BYTES_MAX + 1)
                while len(body) <= _BYTES_MAX and not reply.content.at_eof():
                    body += await reply.content.read(_BYTES_MAX + 1 - len(body))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            return None
        return body if len(body) <= _BYTES_MAX else None
