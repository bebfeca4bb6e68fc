"""A client as lean as it gets: one connection, one request at a time, so that load tests measure HAProxy."""

from __future__ import annotations

import asyncio
import contextlib

from router_support.running import CHAT, Answered
from router_support.tables import KEY


class Connection:
    """A keep-alive connection that is opened again when the other side closed it between two requests."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, session: str, body: bytes = b"{}") -> Answered:
        """Send one request of a user and return the answer; raises OSError when none comes."""
        lines = (
            f"POST {CHAT} HTTP/1.1",
            "Host: bot",
            f"Authorization: Bearer {KEY}",
            f"x-session-id: {session}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
        )
        reader, writer = self._streams or await asyncio.open_connection("127.0.0.1", self._port)
        self._streams = reader, writer
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        try:
            return await self._answer(reader)
        except asyncio.IncompleteReadError as error:
            raise ConnectionResetError("closed without an answer") from error

    async def _answer(self, reader: asyncio.StreamReader) -> Answered:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])
        }
        text = (await reader.readexactly(int(headers["content-length"]))).decode()
        if headers.get("connection") == "close":
            await self.close()
        return Answered(int(head[0].split()[1]), headers, text)

    async def close(self) -> None:
        if self._streams:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
