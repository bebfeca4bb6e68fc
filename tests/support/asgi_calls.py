"""ASGI apps made of a few lines, and requests to them without a server in between."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Reply:
    """What an app has sent so far."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    complete: bool = False

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Call:
    """One request under way; `hang_up` is what a client does that loses interest."""

    reply: Reply
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    body: list[bytes] = field(default_factory=lambda: [b""])

    def hang_up(self) -> None:
        self.gone.set()

    async def receive(self) -> dict[str, Any]:
        if self.body:
            part = self.body.pop(0)
            return {"type": "http.request", "body": part, "more_body": bool(self.body)}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.reply.status = message["status"]
            self.reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.reply.chunks.append(message.get("body", b""))
            self.reply.complete = not message.get("more_body", False)


def scope(method: str, path: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json"), *pairs],
        "server": ("test", 80),
        "client": ("test", 1),
        "state": {},
    }


async def call(app: Any, method: str, path: str, body: Any = None, **headers: str) -> Reply:
    """Send a request and return the reply; underscores in header names stand for hyphens."""
    sent = Call(Reply(), body=[b"" if body is None else json.dumps(body).encode()])
    await app(
        scope(method, path, {name.replace("_", "-"): value for name, value in headers.items()}),
        sent.receive,
        sent.send,
    )
    return sent.reply


@dataclass
class Exchange:
    """The app's end of one request."""

    scope: Any
    receive: Any
    send: Any

    async def start(self, status: int = 200, content_type: str = "application/json") -> None:
        headers = [(b"content-type", content_type.encode())]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    async def write(self, data: bytes, *, last: bool = False) -> None:
        await self.send({"type": "http.response.body", "body": data, "more_body": not last})


def app_of(script: Callable[[Exchange], Awaitable[None]]) -> Any:
    """Return an app that plays a script."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await script(Exchange(scope, receive, send))

    return app


async def until(holds: Callable[[], Any], within_s: float = 20) -> None:
    """Let the loop run until something holds; what is asked may be a coroutine."""
    async with asyncio.timeout(within_s):
        while True:
            held = holds()
            if await held if isinstance(held, Awaitable) else held:
                return
            await asyncio.sleep(0.002)
