"""The public port as one ASGI app: the paths, the layer around them, and the log around both."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.routing import Route

from fettle_server.api import openapi
from fettle_server.api.endpoints import Endpoints
from fettle_server.api.refusals import refused
from fettle_server.api.responses import json_response, refusal
from fettle_server.engine.types import EngineError
from fettle_server.layer.asgi import ClientGone, Refused, answer
from fettle_trainer.strict_json import shown

if TYPE_CHECKING:
    from starlette.requests import Request

    from fettle_server.api.body import BodyLimits
    from fettle_server.api.names import Names
    from fettle_server.api.serving import Serving
    from fettle_server.layer.asgi import App, Receive, Scope, Send

__all__ = ["public_app", "refusing"]

_CLIENT_GONE: Final = 499


def public_app(serving: Serving, names: Names, limits: BodyLimits | None = None) -> Starlette:
    """Return the paths that clients may ask."""
    endpoints = Endpoints(serving, names, limits)
    document = openapi.document()

    async def healthz(_request: Request) -> App:
        return _status(serving.engine.healthy, "ok", "failed")

    async def readyz(_request: Request) -> App:
        return _status(serving.ready, "ready", "stopping" if serving.stopping else "loading")

    async def described(_request: Request) -> App:
        return json_response(document)

    app = Starlette(
        routes=[
            Route("/v1/chat/completions", endpoints.chat, methods=["POST"]),
            Route("/v1/completions", endpoints.complete, methods=["POST"]),
            Route("/score", endpoints.score, methods=["POST"]),
            Route("/v1/models", endpoints.models),
            Route("/v1/models/{model:path}", endpoints.model),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/openapi.json", described),
        ],
        exception_handlers=refusing(),
    )
    app.router.redirect_slashes = False
    return app


def refusing() -> dict[Any, Any]:
    """Return what turns errors into answers of OpenAI's shape, for every Starlette app of the server."""
    return {
        Refused: _refuse,
        EngineError: _refuse,
        HTTPException: _refuse_path,
        ClientGone: _nobody_listens,
        Exception: _refuse,
    }


async def _refuse(request: Request, error: Exception) -> App:
    return refusal(refused(error, request.scope["path"]))


async def _refuse_path(request: Request, error: HTTPException) -> App:
    asked = f"{request.method} {shown(request.scope['path'])}"
    if error.status_code == 405:
        allowed = error.headers["Allow"]
        said = Refused(405, "method_not_allowed", f"{asked} is not possible; the path takes {allowed}.")
        return refusal(said, {"allow": allowed})
    return refusal(Refused(404, "unknown_url", f"There is nothing at {asked}."))


async def _nobody_listens(_request: Request, _error: Exception) -> App:
    return _nothing


async def _nothing(_scope: Scope, _receive: Receive, send: Send) -> None:
    await answer(send, _CLIENT_GONE, b"")


def _status(good: bool, yes: str, no: str) -> App:
    return json_response({"status": yes if good else no}, 200 if good else 503)
