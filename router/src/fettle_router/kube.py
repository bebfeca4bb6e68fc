"""Following objects of the Kubernetes API: list, watch, and begin again whenever that breaks."""

import asyncio
import json
import logging
import os
import random
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from fettle_router.errors import ApiUnavailable, InvalidConfiguration

__all__ = ["ApiServer", "Objects", "follow_for_ever", "in_cluster", "session"]

Objects = Mapping[str, dict[str, Any]]
"""Objects of one kind by name."""

WATCH_S: Final = 30
"""A watch is opened anew this often, so that a connection that died silently is noticed."""
_ANSWER_S: Final = 10
_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
_LONGEST_LINE_BYTES: Final = 4 * 1024 * 1024
"""An event is one line and carries a whole object; a ConfigMap may have 1 MiB."""
_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class ApiServer:
    """Where the API server is and how to speak to it."""

    url: str
    ca: Path
    token: Path
    """Read again for every request, because it is renewed every hour."""


def in_cluster() -> ApiServer:
    """Return the API server of the cluster that this pod runs in."""
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise InvalidConfiguration(
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set: "
            "run inside a pod, or give --api-server, --api-ca and --api-token."
        )
    authority = f"[{host}]" if ":" in host else host
    return ApiServer(f"https://{authority}:{port}", _ACCOUNT / "ca.crt", _ACCOUNT / "token")


def session(api: ApiServer) -> aiohttp.ClientSession:
    """Return a client session for an API server; its CA is the only one that is trusted."""
    trust = ssl.create_default_context(cafile=str(api.ca))
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=trust), read_bufsize=_LONGEST_LINE_BYTES, raise_for_status=False
    )


async def follow_for_ever(
    client: aiohttp.ClientSession,
    api: ApiServer,
    path: str,
    selector: Mapping[str, str],
    changed: Callable[[Objects], None],
) -> None:
    """Tell the whole set of objects at first and after each change; failures cost time, never the loop."""
    pause = _FIRST_PAUSE_S
    while True:
        try:
            async for objects in _follow(client, api, path, selector):
                pause = _FIRST_PAUSE_S
                changed(objects)
        except ApiUnavailable as error:
            _log.warning("%s cannot be followed, trying again: %s", path, error)
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, hides nothing
        pause = min(pause * 2, _LONGEST_PAUSE_S)


async def _follow(
    client: aiohttp.ClientSession, api: ApiServer, path: str, selector: Mapping[str, str]
) -> AsyncIterator[Objects]:
    objects, version = await _list(client, api, path, selector)
    yield dict(objects)
    while True:
        async for event in _watch(client, api, path, selector, version):
            item = event["object"]
            if event["type"] == "ERROR":
                raise ApiUnavailable(f"the watch ended: {item.get('message', item)}")
            version = item["metadata"]["resourceVersion"]
            if event["type"] == "BOOKMARK":
                continue
            name = item["metadata"]["name"]
            if event["type"] == "DELETED":
                objects.pop(name, None)
            else:
                objects[name] = item
            yield dict(objects)


async def _list(
    client: aiohttp.ClientSession, api: ApiServer, path: str, selector: Mapping[str, str]
) -> tuple[dict[str, dict[str, Any]], str]:
    limit = aiohttp.ClientTimeout(total=_ANSWER_S)
    try:
        async with client.get(
            api.url + path, params=selector, headers=_headers(api), timeout=limit
        ) as answer:
            await _expect_ok(answer)
            found = await answer.json()
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
        raise _unavailable(error) from error
    return {item["metadata"]["name"]: item for item in found["items"]}, found["metadata"]["resourceVersion"]


async def _watch(
    client: aiohttp.ClientSession, api: ApiServer, path: str, selector: Mapping[str, str], version: str
) -> AsyncIterator[dict[str, Any]]:
    wanted = {
        "watch": "true",
        "resourceVersion": version,
        "allowWatchBookmarks": "true",
        "timeoutSeconds": str(WATCH_S),
    }
    limit = aiohttp.ClientTimeout(total=WATCH_S + _ANSWER_S)
    try:
        async with client.get(
            api.url + path, params={**selector, **wanted}, headers=_headers(api), timeout=limit
        ) as answer:
            await _expect_ok(answer)
            async for line in answer.content:
                yield json.loads(line)
    except (aiohttp.ClientError, TimeoutError, ValueError, OSError) as error:
        raise _unavailable(error) from error


def _headers(api: ApiServer) -> dict[str, str]:
    return {"Authorization": f"Bearer {api.token.read_text(encoding='utf-8').strip()}"}


async def _expect_ok(answer: aiohttp.ClientResponse) -> None:
    if answer.status != 200:
        raise ApiUnavailable(f"the API server answered {answer.status}: {(await answer.text())[:300]}")


def _unavailable(error: Exception) -> ApiUnavailable:
    return ApiUnavailable(f"{type(error).__name__}: {error}")
