"""Is the process alive? The event loop proves it by a beat; a thread that does not depend on it looks at the beat."""

import asyncio
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

__all__ = ["Heartbeat", "beat_forever", "serve_probes"]

STUCK_AFTER_S = 30.0
_BEAT_EVERY_S = 1.0


class Heartbeat:
    """When the event loop last had time for us, and whether all objects have been seen once."""

    def __init__(
        self, stuck_after_s: float = STUCK_AFTER_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stuck_after_s = stuck_after_s
        self._clock = clock
        self._last = clock()
        self._ready = False

    def beat(self) -> None:
        """Note that the event loop runs."""
        self._last = self._clock()

    def become_ready(self) -> None:
        """Note that the operator has seen the world once."""
        self._ready = True

    def liveness(self) -> tuple[bool, str]:
        """Return whether the loop runs, with a sentence."""
        age = self._clock() - self._last
        if age > self._stuck_after_s:
            return False, f"the event loop has been stuck for {age:.0f} s"
        return True, "ok"

    def readiness(self) -> tuple[bool, str]:
        """Return whether the operator acts, with a sentence."""
        alive, sentence = self.liveness()
        if alive and not self._ready:
            return False, "the objects have not been listed yet"
        return alive, sentence


async def beat_forever(heartbeat: Heartbeat, also: Callable[[], None]) -> None:
    """Beat once a second, and do what else is due at that pace."""
    while True:
        heartbeat.beat()
        also()
        await asyncio.sleep(_BEAT_EVERY_S)


def serve_probes(heartbeat: Heartbeat, port: int, address: str = "0.0.0.0") -> ThreadingHTTPServer:  # noqa: S104 - the kubelet comes from outside
    """Answer /healthz and /readyz from a thread of its own, so that a stuck loop is reported and not just silent."""
    checks = {"/healthz": heartbeat.liveness, "/readyz": heartbeat.readiness}

    class Probe(BaseHTTPRequestHandler):
        """One request of the kubelet."""

        def do_GET(self) -> None:
            """Answer it."""
            check = checks.get(self.path)
            good, sentence = check() if check else (False, "not found")
            status = (
                HTTPStatus.OK if good else HTTPStatus.SERVICE_UNAVAILABLE if check else HTTPStatus.NOT_FOUND
            )
            body = f"{sentence}\n".encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Stay silent: a probe every few seconds is no news."""

    server = ThreadingHTTPServer((address, port), Probe)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="probes", daemon=True).start()
    return server
