"""HTTP connections with the bounds that uvicorn leaves to a proxy in front.

A pod can be asked directly, and then nobody else ends a connection whose headers never come or never end. Requests
that are sent before the answer to the one before are refused: uvicorn tells only the last of them that the client
has gone, and the others would be generated for nobody.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    import asyncio

__all__ = ["BoundedConnection"]

HEADERS_S: Final = 10.0
"""Seconds within which all headers of a request have to arrive."""
HEADERS_SIZE: Final = 65_536
"""Bytes of the path and all headers."""


class _OutOfBounds(Exception):
    """Ends the parsing of a request."""


class BoundedConnection(HttpToolsProtocol):  # type: ignore[misc]  # uvicorn is Any here, see pyproject.toml
    """One connection."""

    _deadline: asyncio.TimerHandle | None = None
    _size = 0

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait for the first headers."""
        super().connection_made(transport)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._headers_came()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._size = 0
        self._await_headers()
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count the path."""
        self._grow(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._grow(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Refuse a request that does not wait for the answer to the one before."""
        self._headers_came()
        if self._answering:
            raise _OutOfBounds("a request before the answer to the last one")
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP."""
        if self._answering:
            # A status in the middle of an answer would be taken for a part of it.
            self.transport.close()
        else:
            super().send_400_response(msg)

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > HEADERS_SIZE:
            raise _OutOfBounds("headers without end")

    def _await_headers(self) -> None:
        self._headers_came()
        self._deadline = self.loop.call_later(HEADERS_S, self._give_up)

    def _headers_came(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        if not self.transport.is_closing():
            self.transport.close()
