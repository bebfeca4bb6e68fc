"""The fault proxy: plain HTTP on loopback in front of the real API server.

It speaks to the server as an administrator who impersonates the operator, so the operator's permissions
hold behind it. Every request is logged; rules make some of them fail.
"""

import asyncio
import json
from pathlib import Path
from typing import Any

from aiohttp import ClientConnectionError, web

from faults.rules import Action, Answer, Delay, Kill, Request, Reset, Rule, is_write
from faults.upstream import Upstream

__all__ = ["FaultProxy"]

_DROPPED_HEADERS = frozenset({"transfer-encoding", "connection", "content-length", "host", "date"})


class FaultProxy:
    """A server in the harness's loop."""

    def __init__(self, upstream: Upstream, impersonate: str) -> None:
        self._upstream = upstream
        self._impersonate = impersonate
        self._runner: web.AppRunner | None = None
        self._watches: dict[web.StreamResponse, asyncio.Task[None] | None] = {}
        self._frozen = asyncio.Event()
        self.requests: list[Request] = []
        self.rules: list[Rule] = []
        self.hides = _nothing
        """Watch events for which it is true never reach the operator."""
        self.url = ""

    async def open(self) -> None:
        """Begin to serve on a free port."""
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        # Next to no grace at the end: the streams that are open then belong to an operator that is gone.
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"  # type: ignore[union-attr]

    async def close(self) -> None:
        """End the server."""
        if self._runner is not None:
            await self._runner.cleanup()

    def kubeconfig(self, folder: Path) -> Path:
        """Write a kubeconfig that leads here."""
        path = folder / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "proxy"}}],
            "clusters": [{"name": "proxy", "cluster": {"server": self.url}}],
            "users": [{"name": "proxy", "user": {}}],
        }
        path.write_text(json.dumps(config))
        return path

    def writes(self) -> list[Request]:
        """Return the writes so far, in order."""
        return [request for request in list(self.requests) if is_write(request)]

    async def cut_watches(self) -> int:
        """End every open watch; return how many there were."""
        streams = list(self._watches)
        for stream in streams:
            task = self._watches.get(stream)
            if task is not None:
                task.cancel()
        return len(streams)

    async def inject(self, event: dict[str, Any]) -> int:
        """Send an event into every open watch, such as an ERROR with code 410; return how many got it."""
        streams = list(self._watches)
        for stream in streams:
            await stream.write(json.dumps(event).encode() + b"\n")
        return len(streams)

    async def _handle(self, incoming: web.Request) -> web.StreamResponse:
        request = Request(
            number=len(self.requests) + 1,
            method=incoming.method,
            path=incoming.path,
            query=dict(incoming.query),
            body=await incoming.read(),
        )
        self.requests.append(request)
        action = next((rule.action for rule in self.rules if rule.applies(request)), None)
        if request.is_watch:
            return await self._stream(incoming, request, action)
        return await self._exchange(incoming, request, action)

    async def _exchange(
        self, incoming: web.Request, request: Request, action: Action | None
    ) -> web.StreamResponse:
        match action:
            case Kill("before", kill):
                kill()
                return _drop(incoming)
            case Reset("before"):
                return _drop(incoming)
            case Answer():
                request.code = action.code
                return _answered(action)
            case Delay(seconds):
                await asyncio.sleep(seconds)
            case _:
                pass
        reply = await self._forwarded(incoming, request)
        match action:
            case Kill("applied", kill):
                kill()
                return _drop(incoming)
            case Reset("after"):
                return _drop(incoming)
            case _:
                pass
        request.code = reply.status
        if isinstance(action, Kill):
            await reply.prepare(incoming)
            await reply.write_eof()
            action.kill()
        return reply

    async def _forwarded(self, incoming: web.Request, request: Request) -> web.Response:
        # From here on the write may take place, whatever becomes of us or of the operator.
        request.applied = True
        async with self._upstream.session.request(
            request.method,
            self._upstream.url + incoming.raw_path,
            data=request.body or None,
            headers=self._headers(incoming),
        ) as reply:
            kept = {key: value for key, value in reply.headers.items() if key.lower() not in _DROPPED_HEADERS}
            return web.Response(status=reply.status, body=await reply.read(), headers=kept)

    async def _stream(
        self, incoming: web.Request, request: Request, action: Action | None
    ) -> web.StreamResponse:
        if isinstance(action, Answer):
            request.code = action.code
            return _answered(action)
        if isinstance(action, Reset):
            return _drop(incoming)
        response = web.StreamResponse()
        async with self._upstream.session.get(
            self._upstream.url + incoming.raw_path, headers=self._headers(incoming)
        ) as reply:
            request.code = reply.status
            response.set_status(reply.status)
            response.content_type = "application/json"
            await response.prepare(incoming)
            copying = asyncio.create_task(self._copy(reply.content.iter_any(), response))
            self._watches[response] = copying
            try:
                await copying
            except (ConnectionError, ClientConnectionError, asyncio.CancelledError):
                _drop(incoming)
            finally:
                copying.cancel()
                self._watches.pop(response, None)
        return response

    async def _copy(self, chunks: object, response: web.StreamResponse) -> None:
        rest = b""
        async for chunk in chunks:  # type: ignore[attr-defined]
            *complete, rest = (rest + chunk).split(b"\n")
            for line in complete:
                if line.strip() and not self.hides(json.loads(line)):
                    await response.write(line + b"\n")

    def _headers(self, incoming: web.Request) -> dict[str, str]:
        passed = {
            key: value for key, value in incoming.headers.items() if key.lower() not in _DROPPED_HEADERS
        }
        passed.pop("Accept-Encoding", None)
        return {**passed, "Impersonate-User": self._impersonate, "Impersonate-Group": "system:authenticated"}


def _nothing(_: dict[str, Any]) -> bool:
    return False


def _answered(action: Answer) -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": action.code,
        "reason": action.reason,
        "message": f"injected fault {action.code}",
    }
    return web.json_response(body, status=action.code, headers=dict(action.headers))


def _drop(incoming: web.Request) -> web.Response:
    """Cut the client's connection; what is returned is never sent."""
    if incoming.transport is not None:
        incoming.transport.abort()
    return web.Response()
