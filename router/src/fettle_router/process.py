"""The HAProxy process: checking a configuration, starting, reloading without losing a connection, stopping."""

import asyncio
import contextlib
import os
import signal
from typing import Final

from fettle_router import files
from fettle_router.errors import HaproxyFailed, InvalidConfiguration
from fettle_router.layout import Layout
from fettle_router.render import Rendered
from fettle_router.runtime import Runtime, ask

__all__ = ["MEMORY", "HaproxyProcess", "check"]

LOAD_TIMEOUT_S: Final = 15.0
_POLL_S: Final = 0.02
MEMORY: Final = {"MALLOC_TOP_PAD_": "8388608", "MALLOC_TRIM_THRESHOLD_": "134217728"}
"""Buffers come and go with each request; the C library would hand their memory back to the kernel every time."""
_LAST_LINES: Final = 5


async def check(rendered: Rendered, layout: Layout) -> None:
    """Let HAProxy itself judge files that lie in a folder; raises with its words when it refuses them."""
    files.write(rendered, layout)
    process = await asyncio.create_subprocess_exec(
        "haproxy",
        "-c",
        "-f",
        str(layout.configuration),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    if process.returncode != 0:
        complaints = [line for line in output.decode(errors="replace").splitlines() if "[ALERT]" in line]
        raise InvalidConfiguration("HAProxy refuses the configuration: " + " ".join(complaints[:_LAST_LINES]))


class HaproxyProcess:
    """One HAProxy in master-worker mode, a child of this process."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._runtime = Runtime(layout)
        self._process: asyncio.subprocess.Process | None = None
        self._started = asyncio.Event()

    @property
    def running(self) -> bool:
        """Whether the master process is alive."""
        return self._process is not None and self._process.returncode is None

    async def load(self, rendered: Rendered) -> None:
        """Serve a rendering whose files lie in place: start HAProxy, or have it start new workers beside the old."""
        former = 0
        if self.running:
            former = (await self._runtime.loaded()).pid
            await self._tell_master("reload")
        else:
            await self._start()
        await self._wait_until_loaded(rendered.structure, former)

    async def wait(self) -> int:
        """Return the exit status once HAProxy has been started and has ended."""
        await self._started.wait()
        assert self._process is not None  # noqa: S101 - set before the event, which mypy cannot know
        return await self._process.wait()

    async def stop(self, grace_s: float) -> None:
        """Take no new connections, let those that are open end within the grace period, then end HAProxy."""
        if self._process is None or not self.running:
            return
        # A master that has just started loses the signal; one that answers does not.
        with contextlib.suppress(HaproxyFailed):
            await self._tell_master("show proc")
        self._process.send_signal(signal.SIGUSR1)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), grace_s)
            return
        self._process.terminate()
        await self._process.wait()

    async def _start(self) -> None:
        for socket in (self._layout.runtime_socket, self._layout.master_socket):
            socket.unlink(missing_ok=True)
        self._process = await asyncio.create_subprocess_exec(
            "haproxy",
            "-W",
            "-S",
            f"{self._layout.master_socket},mode,600",
            "-f",
            str(self._layout.configuration),
            env=os.environ | MEMORY,
        )
        self._started.set()

    async def _tell_master(self, command: str) -> None:
        """Send a command; shortly after a start or a reload the master does not listen yet."""
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                while not await self._master_took(command):  # noqa: ASYNC110 - HAProxy sends no event
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise HaproxyFailed("HAProxy's master process does not answer.") from None

    async def _master_took(self, command: str) -> bool:
        try:
            await ask(self._layout.master_socket, command)
        except HaproxyFailed:
            return False
        return True

    async def _wait_until_loaded(self, structure: str, former: int) -> None:
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                while not await self._has_loaded(structure, former):  # noqa: ASYNC110 - HAProxy sends no event
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise HaproxyFailed("HAProxy did not take up the new configuration; its log says why.") from None

    async def _has_loaded(self, structure: str, former: int) -> bool:
        if not self.running:
            raise HaproxyFailed("HAProxy ended while it started; its log says why.")
        try:
            loaded = await self._runtime.loaded()
        except HaproxyFailed:
            return False
        return loaded.structure == structure and loaded.pid != former
