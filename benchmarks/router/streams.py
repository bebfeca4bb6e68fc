"""Streams of server-sent events: a stand-in that says fifty tokens a second, and clients that listen.

`python streams.py PORT` is the stand-in; `listen` is the other side.
"""

# ruff: noqa: INP001 - a program for people, no package

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Final

TOKENS_PER_SECOND: Final = 50
_CHUNK: Final = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "bot"}


def event(text: str, finish: str | None = None) -> bytes:
    """Return one token as OpenAI's API says it."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({**_CHUNK, "choices": [choice]}).encode() + b"\n\n"


async def serve(port: int) -> None:
    """Stream to everybody, a token at a time, for as many seconds as the request's max_tokens takes."""
    token = _http_chunk(event(" token"))
    end = _http_chunk(event("", "stop")) + _http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            length = next(int(line[15:]) for line in head if line.lower().startswith(b"content-length:"))
            tokens = json.loads(await reader.readexactly(length))["max_tokens"]
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            begin = time.monotonic()
            for number in range(tokens):
                await asyncio.sleep(begin + number / TOKENS_PER_SECOND - time.monotonic())
                writer.write(token)
            writer.write(end)

    server = await asyncio.start_server(answer, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


async def listen(port: int, key: str, *, streams: int, seconds: int) -> int:
    """Read so many streams at a time; return how many events came."""
    body = {"model": "bot", "stream": True, "max_tokens": seconds * TOKENS_PER_SECOND}
    text = json.dumps({**body, "messages": [{"role": "user", "content": "Hello"}]}).encode()
    request = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: bot\r\nContent-Type: application/json\r\n"
        b"Authorization: Bearer %b\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        % (key.encode(), len(text))
    ) + text

    async def read() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        events = 0
        while block := await reader.read(65536):
            events += block.count(b"data: {")
        writer.close()
        return events

    return sum(await asyncio.gather(*(read() for _ in range(streams))))


async def _head(reader: asyncio.StreamReader) -> list[bytes]:
    try:
        return (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return []


def _http_chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
