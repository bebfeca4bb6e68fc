"""Requests of the layer itself to vLLM, straight into its app: no port, no network, no client."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fettle_server.layer.asgi import App, Message, Scope

__all__ = ["Vllm", "VllmAnswer"]


@dataclass(frozen=True, slots=True)
class VllmAnswer:
    """What vLLM said."""

    status: int
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether it did what was asked."""
        return self.status == 200

    @property
    def said(self) -> str:
        """The message of an error."""
        try:
            document = json.loads(self.body)
        except ValueError:
            return self.body.decode("utf-8", "replace")[:500] or f"HTTP {self.status}"
        error = document.get("error", document) if isinstance(document, dict) else document
        return str(error.get("message", error) if isinstance(error, dict) else error)[:500]


class Vllm:
    """vLLM, as the layer asks it."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._context: dict[str, Any] = {}

    def learn(self, scope: Scope) -> None:
        """Take over what vLLM's handlers look up in a scope: the application that they belong to."""
        if "app" in scope:
            self._context = {"app": scope["app"]}

    async def load(self, name: str, folder: str) -> VllmAnswer:
        """Load an adapter under a name that was never used for another one."""
        return await self.call(
            "POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": folder, "load_inplace": False}
        )

    async def unload(self, name: str) -> VllmAnswer:
        """Forget an adapter."""
        return await self.call("POST", "/v1/unload_lora_adapter", {"lora_name": name})

    async def one_token(self, name: str) -> VllmAnswer:
        """Let an adapter, or the base, generate one token."""
        prompt = {"model": name, "prompt": "Hello", "max_tokens": 1, "temperature": 0}
        return await self.call("POST", "/v1/completions", prompt)

    async def names(self) -> set[str]:
        """Return what is loaded, the base included."""
        answer = await self.call("GET", "/v1/models")
        return {model["id"] for model in json.loads(answer.body)["data"]} if answer.ok else set()

    async def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> VllmAnswer:
        """Send one request and read the whole answer."""
        data = b"" if body is None else json.dumps(body).encode()
        status, parts = 0, []
        unread = [data]

        async def receive() -> Message:
            if not unread:
                await asyncio.Event().wait()  # vLLM listens for a client that hangs up; this one does not
            return {"type": "http.request", "body": unread.pop(), "more_body": False}

        async def send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        await self._app({**_scope(method, path, len(data)), **self._context}, receive, send)
        return VllmAnswer(status, b"".join(parts))


def _scope(method: str, path: str, length: int) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [
            (b"host", b"localhost"),
            (b"content-type", b"application/json"),
            (b"content-length", str(length).encode()),
        ],
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "state": {},
    }
