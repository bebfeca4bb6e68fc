"""The administrator's connection to the real API server, for the harness itself."""

import json
import ssl
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

from devcluster.apiserver import ApiServer

__all__ = ["Upstream", "tls"]


def tls(server: ApiServer) -> ssl.SSLContext:
    """Return the TLS settings of an administrator."""
    context = ssl.create_default_context(cafile=str(server.ca))
    context.load_cert_chain(str(server.client_cert), str(server.client_key))
    return context


class Upstream:
    """Requests to the API server that no fault ever touches."""

    def __init__(self, server: ApiServer) -> None:
        self.url = server.url
        self._tls = tls(server)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Make the connection pool in the loop that will use it."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=self._tls),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """Return the open pool."""
        assert self._session is not None
        return self._session

    async def json(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json"
    ) -> tuple[int, Any]:
        """Send one request; return status and decoded body."""
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        async with self.session.request(method, self.url + path, data=data, headers=headers) as reply:
            return reply.status, json.loads(await reply.read())

    async def watch(self, path: str, parameters: Mapping[str, str]) -> AsyncIterator[dict[str, Any]]:
        """List and then watch for ever, from version to version; first comes everything that exists."""
        query = dict(parameters)
        async with self.session.get(self.url + path, params=query) as reply:
            listed = json.loads(await reply.read())
        for item in listed["items"]:
            yield {"type": "ADDED", "object": item}
        version = listed["metadata"]["resourceVersion"]
        while True:
            following = {**query, "watch": "1", "resourceVersion": version, "allowWatchBookmarks": "1"}
            async with self.session.get(self.url + path, params=following) as reply:
                async for line in _lines(reply.content):
                    event = json.loads(line)
                    version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] != "BOOKMARK":
                        yield event


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Split by newline whatever the length of a line (readline has a bound)."""
    rest = b""
    async for chunk in stream.iter_any():
        *complete, rest = (rest + chunk).split(b"\n")
        for line in complete:
            if line.strip():
                yield line
