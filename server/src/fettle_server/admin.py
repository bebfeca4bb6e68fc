"""The operator's port: what is to be served, what really is, and what the process is made of. Never public."""

from __future__ import annotations

import hashlib
import hmac
from importlib import metadata
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.routing import Route

from fettle_server.api.adapters import WantedAdapters, report, specs
from fettle_server.api.body import BodyLimits, read_json
from fettle_server.api.responses import json_response
from fettle_server.api.validation import validated
from fettle_server.app import refusing
from fettle_server.layer.asgi import Refused, header, refuse

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request

    from fettle_server.api.names import Names
    from fettle_server.api.serving import Serving
    from fettle_server.layer.asgi import App, Receive, Scope, Send

__all__ = ["BearerToken", "admin_app"]

_LIBRARIES: Final = ("torch", "transformers", "peft", "starlette", "uvicorn")


def admin_app(serving: Serving, names: Names, adapters_root: Path, shadow: App) -> Starlette:
    """Return the paths of the operator; `shadow` answers what lies at /shadow."""

    async def adapters(request: Request) -> App:
        if request.method == "PUT":
            wanted = validated(WantedAdapters, await read_json(request.scope, request.receive, BodyLimits()))
            await serving.running.apply(specs(wanted, adapters_root, names.reserved))
        states = serving.running.adapters()
        return json_response(report(names.base, states, ready=serving.ready).model_dump())

    async def version(_request: Request) -> App:
        versions = {name: metadata.version(name) for name in _LIBRARIES}
        return json_response({"model": names.alias, "base": names.base, "versions": versions})

    app = Starlette(
        routes=[
            Route("/adapters", adapters, methods=["GET", "PUT"]),
            Route("/version", version),
            Route("/shadow", shadow),
        ],
        exception_handlers=refusing(),
    )
    app.router.redirect_slashes = False
    return app


class BearerToken:
    """An ASGI app around another one: nobody passes without the token that a file holds now."""

    def __init__(self, app: App, file: Path) -> None:
        self._app = app
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "http" and not self._right(header(scope, b"authorization")):
            await refuse(send, Refused(401, "invalid_token", "Send the admin token: Authorization: Bearer …"))
            return
        await self._app(scope, receive, send)

    def _right(self, authorization: str) -> bool:
        kind, _, given = authorization.partition(" ")
        try:
            # Read each time: a Secret that is mounted changes under the same name.
            wanted = self._file.read_bytes().strip()
        except OSError:
            wanted = b""
        same = hmac.compare_digest(_hash(given.strip().encode("latin-1")), _hash(wanted))
        return same and bool(wanted) and kind.lower() == "bearer"


def _hash(token: bytes) -> bytes:
    """Digests have one length, so that comparing them tells nothing of the token's."""
    return hashlib.sha256(token).digest()
