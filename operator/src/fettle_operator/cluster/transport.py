"""One HTTP request to the API server: identity, time limit, accounting, and errors of the domain."""

import asyncio
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import aiohttp

from fettle_operator.cluster.answers import error_of
from fettle_operator.cluster.credentials import Credentials
from fettle_operator.errors import Unavailable
from fettle_operator.metrics import Metrics
from fettle_operator.resources import Manifest

__all__ = ["JSON", "Transport"]

JSON = "application/json"
_NO_ANSWER = "0"


class Transport:
    """A connection pool; an asynchronous context manager."""

    def __init__(self, credentials: Credentials, metrics: Metrics, timeout_s: float = 20.0) -> None:
        self._credentials = credentials
        self._metrics = metrics
        self._ssl = credentials.ssl_context() if credentials.server.startswith("https:") else True
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=self._timeout,
            connector=aiohttp.TCPConnector(limit=32, ssl=self._ssl),
            headers={"Accept": JSON, "User-Agent": "fettle-operator"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def request(  # noqa: PLR0913 - what a request consists of
        self,
        verb: str,
        resource: str,
        path: str,
        *,
        parameters: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = JSON,
    ) -> Manifest:
        """Send one request and return the object in the reply; never repeats it: the next pass does.

        `verb` and `resource` are Kubernetes' words for what is done, for the metrics and for messages.
        """
        code = _NO_ANSWER
        try:
            status, payload, headers = await self._send(verb, path, parameters or {}, body, content_type)
            code = str(status)
        except TimeoutError:
            raise Unavailable(f"{verb} {resource}: no answer within {self._timeout.total:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{verb} {resource}: {type(error).__name__}: {error}") from None
        finally:
            self._metrics.api_requests.labels(verb, resource, code).inc()
        if status >= 400:
            raise error_of(f"{verb} {resource}", status, payload, headers)
        return _object(verb, resource, payload)

    async def _send(
        self, verb: str, path: str, parameters: Mapping[str, str], body: Any, content_type: str
    ) -> tuple[int, bytes, Mapping[str, str]]:
        assert self._session is not None, "used outside its context"  # noqa: S101 - a bug of ours, not of a user
        token = await asyncio.to_thread(self._credentials.token) if self._credentials.token_path else None
        token = token or self._credentials.fixed_token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = None if body is None else json.dumps(body).encode()
        if data is not None:
            headers["Content-Type"] = content_type
        async with self._session.request(
            _METHODS[verb],
            self._credentials.server + path,
            params=parameters,
            data=data,
            headers=headers,
            allow_redirects=False,
        ) as reply:
            return reply.status, await reply.read(), reply.headers


_METHODS = {"get": "GET", "list": "GET", "create": "POST", "patch": "PATCH", "delete": "DELETE"}


def _object(verb: str, resource: str, payload: bytes) -> Manifest:
    try:
        reply: Manifest = json.loads(payload)
    except ValueError:
        raise Unavailable(f"{verb} {resource}: the reply is not JSON") from None
    return reply
