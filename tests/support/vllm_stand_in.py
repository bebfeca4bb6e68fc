"""An app that behaves as vLLM's API server does, as far as the layer in it can tell. Checked against the source of
vLLM 0.33.

What it answers shows what it was asked: the name of the LoRA (or of the base), the chat template in use and the stop
tokens. Paths that must not be public answer 200, so that a test sees when one is reached.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

HIDDEN = (
    "/invocations", "/pooling", "/tokenize", "/detokenize", "/v1/embeddings", "/v1/responses", "/score", "/rerank",
    "/v1/audio/transcriptions", "/collective_rpc", "/reset_prefix_cache", "/sleep", "/server_info", "/pause",
    "/start_profile", "/docs", "/openapi.json", "/load", "/version", "/ping",
)  # fmt: skip


@dataclass
class StandIn:
    """What the stand-in holds, and what a test may change."""

    base: str = "bot"
    allows_updates: bool = True
    loras: dict[str, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)
    """Folders that the engine fails to load."""
    mute: set[str] = field(default_factory=set)
    """Folders of adapters that load and then fail to answer."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    """Of the requests in `asked`."""
    calls: list[str] = field(default_factory=list)
    running: int = 0
    go: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared by a test, it holds all answers up after their first word."""
    may_load: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared by a test, it holds loading up."""

    def __post_init__(self) -> None:
        self.go.set()
        self.may_load.set()

    def app(self) -> Starlette:
        routes = [
            Route("/health", self.health),
            Route("/metrics", self.metrics),
            Route("/v1/models", self.models),
            Route("/v1/load_lora_adapter", self.load, methods=["POST"]),
            Route("/v1/unload_lora_adapter", self.unload, methods=["POST"]),
            Route("/v1/chat/completions", self.answer, methods=["POST"]),
            Route("/v1/completions", self.answer, methods=["POST"]),
            *(Route(path, self.leak, methods=["GET", "POST"]) for path in HIDDEN),
        ]
        app = Starlette(routes=routes)
        app.state.held = self
        return app

    async def health(self, _request: Request) -> Response:
        return Response()

    async def leak(self, _request: Request) -> Response:
        return PlainTextResponse("leaked")

    async def metrics(self, _request: Request) -> Response:
        return PlainTextResponse(f'vllm:num_requests_running{{engine="0"}} {float(self.running)}\n')

    async def models(self, _request: Request) -> Response:
        cards = [{"id": self.base, "object": "model", "root": "/base", "parent": None}]
        cards += [
            {"id": name, "object": "model", "root": path, "parent": self.base}
            for name, path in self.loras.items()
        ]
        return JSONResponse({"object": "list", "data": cards})

    async def load(self, request: Request) -> Response:
        body = await request.json()
        name, path = body["lora_name"], body["lora_path"]
        self.calls.append(f"load {name}")
        await self.may_load.wait()
        if not self.allows_updates:
            return JSONResponse({"detail": "Not Found"}, 404)
        if name in self.loras and not body.get("load_inplace"):
            return _error(400, f"The lora adapter '{name}' has already been loaded.", "InvalidUserInput")
        if path in self.broken:
            return _error(500, "Call to add_lora method failed: shapes differ", "InternalServerError")
        self.loras[name] = path
        return PlainTextResponse(f"Success: LoRA adapter '{name}' added successfully.")

    async def unload(self, request: Request) -> Response:
        name = (await request.json())["lora_name"]
        self.calls.append(f"unload {name}")
        if name not in self.loras:
            return _error(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
        del self.loras[name]
        return PlainTextResponse(f"Success: LoRA adapter '{name}' removed successfully.")

    async def answer(self, request: Request) -> Response:
        held: StandIn = request.app.state.held  # as vLLM's handlers find theirs
        asked = await request.json()
        held.asked.append(asked)
        held.headers.append(dict(request.headers))
        name = asked.get("model") or held.base
        if name != held.base and name not in held.loras:
            return _error(404, f"The model `{name}` does not exist.", "NotFoundError")
        if held.loras.get(name) in held.mute:
            return _error(500, "EngineCore encountered an issue.", "InternalServerError")
        if asked.get("max_tokens") == 0:
            return _error(400, f"max_tokens must be at least 1, model {name}.", "BadRequestError")
        chat = request.url.path.endswith("chat/completions")
        answer = _Answer(held, asked, chat, name, request)
        if asked.get("stream"):
            return StreamingResponse(answer.events(), media_type="text/event-stream")
        await held.go.wait()
        return JSONResponse(answer.whole())


@dataclass
class _Answer:
    held: StandIn
    asked: dict[str, Any]
    chat: bool
    name: str
    request: Request

    def __post_init__(self) -> None:
        kind = "chatcmpl" if self.chat else "cmpl"
        self.id = f"{kind}-{self.request.headers.get('x-request-id', uuid.uuid4().hex)}"
        said = f"{self.name} says hello|{self.asked.get('chat_template')}|{self.asked.get('stop_token_ids')}"
        limit = self.asked.get("max_tokens") or 100
        self.words = said.split(" ")[:limit]
        self.finish = "stop" if limit > 3 else "length"
        self.usage = {"prompt_tokens": 11, "completion_tokens": len(self.words) * self.n}
        self.usage["total_tokens"] = sum(self.usage.values())

    @property
    def n(self) -> int:
        return self.asked.get("n") or 1

    def document(self, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        kind = "chat.completion" if self.chat else "text_completion"
        kind += ".chunk" if self.chat and self.asked.get("stream") else ""
        head = {"id": self.id, "object": kind, "created": 1, "model": self.name}
        return {**head, "choices": choices, **more}

    def whole(self) -> dict[str, Any]:
        text = " ".join(self.words)
        content = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
        choices = [{"index": index, **content, "finish_reason": self.finish} for index in range(self.n)]
        return self.document(choices, usage=self.usage)

    async def events(self) -> AsyncIterator[bytes]:
        """Like vLLM: role, words, the reason in the last word's chunk, usage where wanted."""
        self.held.running += 1
        try:
            options = self.asked.get("stream_options") or {}
            if self.chat:
                for index in range(self.n):
                    yield self.event(index, {"delta": {"role": "assistant", "content": ""}}, None)
            for place, word in enumerate(self.words):
                last = place == len(self.words) - 1
                text = word if last else word + " "
                for index in range(self.n):
                    content = {"delta": {"content": text}} if self.chat else {"text": text}
                    yield self.event(index, content, self.finish if last else None)
                await self.held.go.wait()
            if options.get("include_usage"):
                yield _sse(self.document([], usage=self.usage))
            yield b"data: [DONE]\n\n"
        finally:
            self.held.running -= 1

    def event(self, index: int, content: dict[str, Any], finish: str | None) -> bytes:
        return _sse(self.document([{"index": index, **content, "finish_reason": finish}]))


def _sse(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def _error(status: int, message: str, kind: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind, "param": None, "code": status}}, status)
