"""`/adapters` and `/shadow`: the operator's paths. vLLM has one port, so they stand beside the public ones.

They ask for a token of their own; the router forwards neither of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle_server.admin import BearerToken
from fettle_server.api.adapters import WantedAdapters, report, specs
from fettle_server.api.body import BodyLimits, read_json
from fettle_server.api.validation import validated
from fettle_server.layer.admin_routes import ShadowEndpoint
from fettle_server.layer.asgi import require_method, respond

if TYPE_CHECKING:
    from collections.abc import Callable

    from fettle_server.api.names import Names
    from fettle_server.layer.asgi import App, Receive, Scope, Send
    from fettle_server.shadow import Shadow
    from fettle_server.vllm.adapters import VllmAdapters
    from fettle_server.vllm.settings import LayerSettings

__all__ = ["operator_paths"]


class _Adapters:
    """The full list of what is to be served, and what really is."""

    def __init__(
        self, adapters: VllmAdapters, names: Names, settings: LayerSettings, ready: Callable[[], bool]
    ) -> None:
        self._adapters = adapters
        self._names = names
        self._settings = settings
        self._ready = ready

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await respond(send, self._answer(scope, receive))

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        require_method(scope, "GET", "PUT")
        if scope["method"] == "PUT":
            wanted = validated(WantedAdapters, await read_json(scope, receive, BodyLimits()))
            self._adapters.apply(specs(wanted, self._settings.adapters_root, self._names.reserved))
        shown = report(self._names.base, self._adapters.adapters(), ready=self._ready())
        return shown.model_dump_json().encode()


def operator_paths(
    adapters: VllmAdapters,
    names: Names,
    settings: LayerSettings,
    shadow: Shadow,
    ready: Callable[[], bool],
) -> dict[str, App]:
    """Return the apps by path, behind the token."""
    file = settings.admin_token_file
    return {
        "/adapters": BearerToken(_Adapters(adapters, names, settings, ready), file),
        "/shadow": BearerToken(ShadowEndpoint(shadow), file),
    }
