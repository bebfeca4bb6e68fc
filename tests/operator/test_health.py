"""The probes: asked over HTTP, while the event loop runs and while it really does not."""

import asyncio
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from fettle_operator.health import Heartbeat, beat_forever, serve_probes

STUCK_AFTER_S = 1.5


class Served:
    def __init__(self) -> None:
        self.heartbeat = Heartbeat(STUCK_AFTER_S)
        self.server = serve_probes(self.heartbeat, 0, "127.0.0.1")

    def ask(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.server.server_port}{path}", timeout=5
            ) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture
def served() -> Iterator[Served]:
    served = Served()
    yield served
    served.server.shutdown()
    served.server.server_close()


def test_a_loop_that_is_really_blocked_turns_the_probe_red_and_recovers(served: Served) -> None:
    release = threading.Event()

    def live() -> None:
        async def block_in_the_middle() -> None:
            beating = asyncio.create_task(beat_forever(served.heartbeat, lambda: None))
            await asyncio.sleep(0)
            release.wait(30)
            await asyncio.sleep(0.01)
            served.heartbeat.beat()
            beating.cancel()

        asyncio.run(block_in_the_middle())

    thread = threading.Thread(target=live)
    assert served.ask("/healthz")[0] == 200
    thread.start()
    try:
        deadline = time.monotonic() + 20
        while served.ask("/healthz")[0] == 200 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert served.ask("/healthz") == (503, served.ask("/healthz")[1])
        assert "stuck" in served.ask("/healthz")[1]
    finally:
        release.set()
        thread.join()
    assert served.ask("/healthz") == (200, "ok\n")


def test_readiness_comes_with_the_first_complete_list(served: Served) -> None:
    assert served.ask("/readyz") == (503, "the objects have not been listed yet\n")

    served.heartbeat.become_ready()

    assert served.ask("/readyz") == (200, "ok\n")


def test_nothing_else_is_served(served: Served) -> None:
    assert served.ask("/metrics")[0] == 404
