"""`GET` and `PUT /shadow`: the operator's side of shadow copies, for the admin port.

`ShadowEndpoint` is an ASGI app of one path: give it `Route("/shadow", endpoint)`, behind whatever asks for the token
(a `Mount` would send clients on to `/shadow/`).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from fettle_server.layer.asgi import Refused, read_body, require_method, respond
from fettle_server.shadow import ShadowSettings

if TYPE_CHECKING:
    from fettle_server.layer.asgi import Receive, Scope, Send
    from fettle_server.shadow import Shadow

__all__ = ["ShadowEndpoint"]

_MAX_BYTES: Final = 65_536


class ShadowEndpoint:
    """Shows and changes what is copied."""

    def __init__(self, shadow: Shadow) -> None:
        self._shadow = shadow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await respond(send, self._answer(scope, receive))

    async def _answer(self, scope: Scope, receive: Receive) -> bytes:
        require_method(scope, "GET", "PUT")
        if scope["method"] == "PUT":
            settings = _settings(await read_body(receive, _MAX_BYTES))
            try:
                self._shadow.configure(settings)
            except ValueError as error:
                raise Refused(400, "invalid_settings", str(error)) from error
        document = self._shadow.settings.model_dump(by_alias=True)
        return json.dumps({**document, "outcomes": self._shadow.outcomes}).encode()


def _settings(body: bytes) -> ShadowSettings:
    try:
        return ShadowSettings.model_validate_json(body)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        sentences = [
            f"{'.'.join(map(str, problem['loc'])) or 'body'}: {problem['msg']}" for problem in problems
        ]
        raise Refused(400, "invalid_settings", "; ".join(sentences)) from None
