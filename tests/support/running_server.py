"""The whole model server in a thread of its own, so that clients of every kind can wait for it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import httpx

from fettle_server.api.serving import Serving
from fettle_server.settings import ServerSettings

if TYPE_CHECKING:
    from fettle_server.serve import Opened
    from server_releases import Release


class Server(NamedTuple):
    """The whole server, as `python -m fettle_server` makes it."""

    url: str
    admin_url: str
    token: str
    root: Path
    releases: Mapping[str, Release]
    serving: Serving
    """Lives in another thread: look, do not call."""

    def admin(self) -> httpx.Client:
        return httpx.Client(base_url=self.admin_url, headers={"authorization": f"Bearer {self.token}"})

    def put(self, *revisions: str) -> httpx.Response:
        """Ask for these adapters; a revision's name begins with its release's."""
        wanted = [
            {"revision": revision, "digest": release.digest, "path": release.folder.name}
            for revision in revisions
            for release in (self.releases[revision.partition("-")[0]],)
        ]
        with self.admin() as admin:
            return admin.put("/adapters", json={"adapters": wanted})

    def settled(self) -> None:
        """Wait until every wanted adapter is loaded or refused."""
        deadline = time.monotonic() + 60
        while httpx.get(f"{self.url}/readyz").status_code != 200:
            assert time.monotonic() < deadline, "the adapters are not ready"
            time.sleep(0.05)


@contextmanager
def running(settings: ServerSettings) -> Iterator[Opened]:
    """Run a server until the block ends."""
    from fettle_server import serve  # noqa: PLC0415

    started: Future[Opened] = Future()
    ended = threading.Event()

    async def live() -> None:
        async with serve.opened(settings) as opened:
            await serve.start(opened.serving, settings)
            started.set_result(opened)
            await asyncio.to_thread(ended.wait)
            await serve.stop(opened.serving, 0)

    def run() -> None:
        try:
            asyncio.run(live())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield started.result(300)
    finally:
        ended.set()
        thread.join()
