"""A model server for tests: keeps what it received, byte for byte, and answers as it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from fettle_router.slots import Endpoint


@dataclass(frozen=True)
class Received:
    """One request as it came out of HAProxy."""

    line: str
    headers: dict[str, str]
    body: bytes
    raw: bytes


Answer = Callable[[Received, asyncio.StreamWriter], Awaitable[None]]


def json_answer(status: str = "200 OK", **content: object) -> bytes:
    body = json.dumps(content).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def echo_revision(request: Received, writer: asyncio.StreamWriter) -> None:
    """Answer with the revision that the router chose."""
    writer.write(json_answer(revision=request.headers.get("x-fettle-revision", "")))


@dataclass
class Backend:
    """A listening stand-in."""

    endpoint: Endpoint
    answer: Answer = echo_revision
    received: list[Received] = field(default_factory=list)
    open: set[asyncio.StreamWriter] = field(default_factory=set)
    server: asyncio.Server | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        try:
            while True:
                request = await _read(reader)
                self.received.append(request)
                await self.answer(request, writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def kill(self) -> None:
        """Vanish as a killed pod does: nothing listens any more and open connections break."""
        if self.server is not None:
            self.server.close()
        for writer in list(self.open):
            writer.transport.abort()


@contextlib.asynccontextmanager
async def backend(answer: Answer = echo_revision, address: str = "127.0.0.1") -> AsyncIterator[Backend]:
    """Run a stand-in on a free port of this machine."""
    stand_in = Backend(Endpoint(address, 0), answer)
    server = await asyncio.start_server(stand_in.serve, address, 0, limit=2**20, backlog=1024)
    stand_in.server = server
    stand_in.endpoint = Endpoint(address, server.sockets[0].getsockname()[1])
    try:
        yield stand_in
    finally:
        await stand_in.kill()


async def _read(reader: asyncio.StreamReader) -> Received:
    head = await reader.readuntil(b"\r\n\r\n")
    line, *rest = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    headers = {
        name.strip().lower(): value.strip() for name, _, value in (header.partition(":") for header in rest)
    }
    body = await (_chunks(reader) if "transfer-encoding" in headers else _counted(reader, headers))
    return Received(line, headers, body, head)


async def _counted(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    return await reader.readexactly(int(headers.get("content-length", "0")))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).strip(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body
