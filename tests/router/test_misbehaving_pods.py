"""Pods that answer with nonsense: the client gets a whole answer, a 502 or a broken connection, and nobody gets another's."""

import asyncio
import contextlib
import json
import re
import socket
import struct
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from router_support.running import CHAT, Router, running
from router_support.stub import Backend, Received, backend, json_answer
from router_support.tables import KEY, table

pytestmark = pytest.mark.asyncio(loop_scope="module")

OK = b"HTTP/1.1 200 OK\r\n"
TWO = b"Content-Length: 2\r\n"
END = b"\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
HI = b"2\r\nhi\r\n0\r\n\r\n"
FORGED = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
RESET = b"<reset>"
"""Stands for a connection that is reset instead of closed."""


def ok(headers: bytes = TWO, body: bytes = b"hi") -> bytes:
    return OK + headers + END + body


WHOLE: dict[str, tuple[bytes, bytes]] = {
    "the end of the connection ends the body": (ok(b""), b"hi"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nhi", b"hi"),
    "another version": (b"HTTP/3.7 200 OK\r\n" + TWO + END + b"hi", b"hi"),
    "no reason after the status": (b"HTTP/1.1 200\r\n" + TWO + END + b"hi", b"hi"),
    "a status that nobody knows": (b"HTTP/1.1 299 Hm\r\n" + TWO + END + b"hi", b"hi"),
    "two lengths that agree": (ok(TWO + TWO), b"hi"),
    "chunks of one byte": (ok(CHUNKED, b"1\r\nh\r\n1\r\ni\r\n0\r\n\r\n"), b"hi"),
    "a chunk with an extension": (ok(CHUNKED, b"2;a=b\r\nhi\r\n0\r\n\r\n"), b"hi"),
    "a trailer": (ok(CHUNKED, b"2\r\nhi\r\n0\r\nx-fettle-revision: other\r\n\r\n"), b"hi"),
    "early hints first": (b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok(), b"hi"),
    "a thousand times 100": (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + ok(), b"hi"),
    "more than its length": (ok(TWO, b"hi" + FORGED), b"hi"),
    "two answers": (ok() + FORGED, b"hi"),
    "an answer after the last chunk": (ok(CHUNKED, HI + FORGED), b"hi"),
    "a body where none can be": (b"HTTP/1.1 204 No Content\r\n\r\n" + FORGED, b""),
    "a length where no body can be": (b"HTTP/1.1 304 Not Modified\r\n" + TWO + END + b"hi", b""),
    "it says that it is another revision": (ok(b"x-fettle-revision: other\r\n" + TWO), b"hi"),
    "it says that it is compressed": (ok(b"Content-Encoding: gzip\r\n" + TWO), b"hi"),
    "it closes and says so": (ok(b"Connection: close\r\n" + TWO), b"hi"),
    "it keeps alive in HTTP/1.0": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n" + TWO + END + b"hi",
        b"hi",
    ),
    "it wants to upgrade": (ok(b"Connection: upgrade\r\nUpgrade: h2c\r\n" + TWO), b"hi"),
    "bytes above 127": (ok(b"X-Note: \xff\xfe\r\n" + TWO), b"hi"),
}
"""Odd, but understood: what the client gets of it."""

NOTHING: dict[str, bytes] = {
    "it hangs up": b"",
    "it resets the connection": RESET,
    "half of the status line": b"HTTP/1.1 20",
    "headers that do not end": OK + TWO,
    "no HTTP": b"hello\r\n\r\n",
    "HTTP/0.9": b"<html>hi</html>",
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a TLS alert": bytes.fromhex("15030300020228"),
    "zeros": b"\x00" * 4096,
    "a status of letters": b"HTTP/1.1 abc OK\r\n" + TWO + END + b"hi",
    "a status of two digits": b"HTTP/1.1 20 OK\r\n" + TWO + END + b"hi",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\n" + TWO + END + b"hi",
    "a header without a colon": ok(b"X-Note\r\n" + TWO),
    "a header without a name": ok(b": x\r\n" + TWO),
    "a blank before the colon": ok(b"Content-Length : 2\r\n"),
    "a NUL in a name": ok(b"X-\x00: a\r\n" + TWO),
    "two lengths that differ": ok(b"Content-Length: 2\r\nContent-Length: 40\r\n"),
    "a negative length": ok(b"Content-Length: -2\r\n"),
    "a length with a sign": ok(b"Content-Length: +2\r\n"),
    "a length of letters": ok(b"Content-Length: two\r\n"),
    "a header above the buffer": ok(b"X-Note: " + b"a" * 70_000 + b"\r\n" + TWO),
    "two hundred headers": ok(b"X-Note: a\r\n" * 200 + TWO),
}
"""Not understood before a byte went to the client: a 502."""

BROKEN: dict[str, bytes] = {
    "a length beyond 64 bits": ok(b"Content-Length: 18446744073709551618\r\n"),
    "less than its length": ok(b"Content-Length: 40\r\n"),
    "it is reset in the middle": ok(b"Content-Length: 40\r\n") + RESET,
    "chunks without an end": ok(CHUNKED, b"2\r\nhi\r\n"),
    "a chunk cut short": ok(CHUNKED, b"5\r\nhi"),
    "a chunk size of letters": ok(CHUNKED, b"2\r\nhi\r\nzz\r\nhi\r\n0\r\n\r\n"),
    "a negative chunk size": ok(CHUNKED, b"2\r\nhi\r\n-2\r\nhi\r\n0\r\n\r\n"),
    "a chunk size beyond 64 bits": ok(CHUNKED, b"2\r\nhi\r\n10000000000000002\r\nhi\r\n0\r\n\r\n"),
    "a chunk longer than its size": ok(CHUNKED, b"2\r\nhi\r\n1\r\nhi\r\n0\r\n\r\n"),
    "a reset between two chunks": ok(CHUNKED, b"2\r\nhi\r\n") + RESET,
}
"""Noticed after the first byte: the client must not take what it has for a whole answer."""

SENT = {name: sent for name, (sent, _) in WHOLE.items()} | NOTHING | BROKEN


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pod() -> AsyncIterator[Backend]:
    async with backend(misbehave) as stand_in:
        yield stand_in


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router(pod: Backend) -> AsyncIterator[Router]:
    async with running() as started:
        await started.serve(table(), [pod.endpoint])
        yield started


async def misbehave(request: Received, writer: asyncio.StreamWriter) -> None:
    """Do what the request's header x-case asks for, and then hang up; answer others with their own session."""
    name = request.headers.get("x-case")
    if name is None:
        writer.write(json_answer(session=request.headers.get("x-session-id", "")))
        return
    sent = SENT[name]
    writer.write(sent.removesuffix(RESET))
    with contextlib.suppress(ConnectionError):
        await writer.drain()
    if sent.endswith(RESET):
        link = writer.get_extra_info("socket")
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


async def exchange(router: Router, name: str) -> tuple[bytes, bytes]:
    """Return head and body as they came, up to the end of the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    lines = (
        f"POST {CHAT} HTTP/1.1",
        "Host: bot",
        f"Authorization: Bearer {KEY}",
        "Content-Type: application/json",
        "Content-Length: 2",
        "Connection: close",
        f"x-case: {name}",
    )
    writer.write("\r\n".join([*lines, "", "{}"]).encode())
    received = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(10):
            while block := await reader.read(65536):
                received += block
    writer.transport.abort()
    head, _, body = re.split(rb"HTTP/1\.[01] ", received)[-1].partition(b"\r\n\r\n")
    return head, body


async def assert_others_get_their_own(router: Router) -> None:
    for number in range(3):
        answer = await router.post(headers={"x-session-id": f"user-{number}"})
        assert (answer.status, answer.text) == (200, json.dumps({"session": f"user-{number}"}))


async def test_the_list_is_long_enough() -> None:
    assert len(SENT) == len(WHOLE) + len(NOTHING) + len(BROKEN) >= 40


@pytest.mark.parametrize("name", WHOLE)
async def test_an_odd_answer_is_passed_on_as_what_it_means(router: Router, name: str) -> None:
    head, body = await exchange(router, name)

    assert int(head[:3]) in {200, 204, 299, 304}
    assert decoded(head, body) == WHOLE[name][1]
    assert re.findall(rb"x-fettle-revision: (\S+)", head)[0] in {b"rev-a", b"rev-b", b"rev-c"}
    assert b"other" not in head
    await assert_others_get_their_own(router)


@pytest.mark.parametrize("name", NOTHING)
async def test_what_is_no_answer_is_a_502(router: Router, name: str) -> None:
    head, body = await exchange(router, name)

    assert head.startswith(b"502 ")
    assert json.loads(body)["error"]["code"] == "bad_gateway"
    await assert_others_get_their_own(router)


@pytest.mark.parametrize("name", BROKEN)
async def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(router: Router, name: str) -> None:
    head, body = await exchange(router, name)

    if not head.startswith(b"502 "):
        assert head.startswith(b"200 ")
        with pytest.raises(IncompleteError):
            decoded(head, body)
    await assert_others_get_their_own(router)


class IncompleteError(Exception):
    """The body does not end as its head says."""


def decoded(head: bytes, body: bytes) -> bytes:
    """Return the body as a client understands it."""
    length = re.search(rb"content-length: (\d+)", head, re.IGNORECASE)
    if b"transfer-encoding: chunked" in head.lower():
        return b"".join(_chunks(body))
    if length and int(head[:3]) not in {204, 304} and len(body) != int(length[1]):
        raise IncompleteError
    return body


def _chunks(body: bytes) -> list[bytes]:
    found = []
    while True:
        size, separator, rest = body.partition(b"\r\n")
        if not separator:
            raise IncompleteError
        count = int(size.partition(b";")[0], 16)
        if count == 0:
            return found
        if rest[count : count + 2] != b"\r\n":
            raise IncompleteError
        found.append(rest[:count])
        body = rest[count + 2 :]
