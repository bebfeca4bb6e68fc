"""`GET /progress` and `GET /metrics` on a port of their own, beside the training and never in its way."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from prometheus_client import CONTENT_TYPE_LATEST

from fettle_trainer.watch.exposition import exposition

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from fettle_trainer.watch.board import Board

DEFAULT_PORT: Final = 9400
_REQUEST_TIMEOUT_S: Final = 5
_MAX_CONNECTIONS: Final = 16
"""More are turned away: readers must not be able to take the training's processor."""


@dataclass(frozen=True)
class Address:
    """Where to listen. On a laptop nobody else may look; in a pod the operator must."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT

    @classmethod
    def parse(cls, text: str) -> Self:
        """Understand HOST:PORT; the host may be left out, and so may the port."""
        host, _, port = text.rpartition(":") if ":" in text else (text, "", "")
        if port and not (port.isdecimal() and int(port) < 2**16):
            msg = f"{text!r} is no address: write HOST:PORT, such as 0.0.0.0:{DEFAULT_PORT}"
            raise ValueError(msg)
        return cls(host.strip("[]") or cls.host, int(port) if port else DEFAULT_PORT)


class ProgressServer:
    """Serves a board until it is closed; a port that is taken is told, and the run goes on without the server."""

    def __init__(self, board: Board, address: Address, tell: Callable[[str], None]) -> None:
        self._server: _Server | None = None
        try:
            self._server = _Server(board, address)
        except OSError as error:
            tell(
                f"Progress is not served: {address.host}:{address.port}: {error.strerror or error}. "
                "The training goes on without it."
            )
            return
        threading.Thread(target=self._server.serve_forever, name="progress", daemon=True).start()

    @property
    def port(self) -> int | None:
        """The port that is really listened on; None when nothing is served."""
        return self._server.server_address[1] if self._server else None

    def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, board: Board, address: Address) -> None:
        self._free = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        self.pages: dict[str, tuple[str, Callable[[], bytes]]] = {
            "/progress": (
                "application/json",
                lambda: board.read().model_dump_json(by_alias=True, exclude_none=True).encode(),
            ),
            "/metrics": (CONTENT_TYPE_LATEST, exposition(board.read)),
        }
        if ":" in address.host:
            self.address_family = socket.AF_INET6
        super().__init__((address.host, address.port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._free.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a reader that went away: it is not the user's affair."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = _REQUEST_TIMEOUT_S
    server_version = "fettle"
    sys_version = ""
    _HEADERS: ClassVar = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            self.send_error(HTTPStatus.NOT_FOUND, "Ask for /progress or /metrics")
            return
        kind, render = page
        body = render()
        self.send_response(HTTPStatus.OK)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **self._HEADERS}.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the inherited name
        """Keep the terminal for the training."""
