"""Hostile bytes on a raw socket: refused, or normalised and authorised in that form; never anything else behind."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from router_support.running import CHAT, Router, eventually, running
from router_support.stub import Backend, backend
from router_support.tables import KEY, table

pytestmark = pytest.mark.asyncio(loop_scope="module")

PATH = CHAT.encode()
AUTH = b"Authorization: Bearer " + KEY.encode() + b"\r\n"
JSON = b"Content-Type: application/json\r\n"
HOST = b"Host: bot\r\n"
OK = AUTH + JSON + HOST
TWO = b"Content-Length: 2\r\n"
END = b"\r\n"
QUIET_S = 2.0
BODY = b"{}"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SMUGGLED = b"POST /v1/load_lora_adapter HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"


def post(
    headers: bytes = TWO, body: bytes = BODY, *, line: bytes = b"POST " + PATH + b" HTTP/1.1\r\n"
) -> bytes:
    return line + OK + headers + END + body


def get(target: bytes, headers: bytes = HOST + AUTH) -> bytes:
    return b"GET " + target + b" HTTP/1.1\r\n" + headers + END


def to(target: bytes, headers: bytes = OK) -> bytes:
    return b"POST " + target + b" HTTP/1.1\r\n" + headers + TWO + END + BODY


MESSAGES: dict[str, bytes] = {
    # two ideas of where the body ends
    "length and chunked": post(b"Content-Length: 4\r\n" + CHUNKED, b"2\r\n{}\r\n0\r\n\r\n"),
    "chunked and length": post(CHUNKED + b"Content-Length: 4\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    "length hides a request behind chunks": post(
        b"Content-Length: 999\r\n" + CHUNKED, b"0\r\n\r\n" + SMUGGLED
    ),
    "length 0 and chunked": post(b"Content-Length: 0\r\n" + CHUNKED, b"2\r\n{}\r\n0\r\n\r\n" + SMUGGLED),
    "two lengths that differ": post(b"Content-Length: 2\r\nContent-Length: 60\r\n", BODY + SMUGGLED),
    "two lengths that agree": post(TWO + TWO),
    "a list of lengths": post(b"Content-Length: 2, 60\r\n", BODY + SMUGGLED),
    "a list of equal lengths": post(b"Content-Length: 2, 2\r\n"),
    "a length with a sign": post(b"Content-Length: +2\r\n"),
    "a negative length": post(b"Content-Length: -2\r\n"),
    "a hexadecimal length": post(b"Content-Length: 0x2\r\n"),
    "a length of letters": post(b"Content-Length: two\r\n"),
    "an empty length": post(b"Content-Length: \r\n"),
    "a length beyond 64 bits": post(b"Content-Length: 18446744073709551618\r\n"),
    "a length with a blank inside": post(b"Content-Length: 2 0\r\n"),
    "a length with a blank before the colon": post(b"Content-Length : 2\r\n"),
    "a length above the limit": post(b"Content-Length: 1048577\r\n"),
    "no length and a body": post(b"", SMUGGLED),
    "chunked twice": post(b"Transfer-Encoding: chunked, chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    "chunked in two headers": post(CHUNKED + CHUNKED, b"2\r\n{}\r\n0\r\n\r\n"),
    "chunked is not last": post(b"Transfer-Encoding: chunked, identity\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    "gzip and chunked": post(b"Transfer-Encoding: gzip, chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    "an unknown coding": post(b"Transfer-Encoding: xchunked\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    "chunked behind a tab": post(b"Transfer-Encoding:\tchunked\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    "chunked behind a vertical tab": post(b"Transfer-Encoding: \x0bchunked\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    "chunked in capitals": post(b"TRANSFER-ENCODING: CHUNKED\r\n", b"2\r\n{}\r\n0\r\n\r\n"),
    "chunked with a blank before the colon": post(
        b"Transfer-Encoding : chunked\r\n", b"2\r\n{}\r\n0\r\n\r\n"
    ),
    "chunked in quotes": post(b'Transfer-Encoding: "chunked"\r\n', b"2\r\n{}\r\n0\r\n\r\n"),
    "chunked in HTTP/1.0": post(CHUNKED, b"2\r\n{}\r\n0\r\n\r\n", line=b"POST " + PATH + b" HTTP/1.0\r\n"),
    "a header named with an underscore": post(b"Transfer_Encoding: chunked\r\n" + TWO),
    # chunks
    "a chunk size that is no number": post(CHUNKED, b"zz\r\n{}\r\n0\r\n\r\n"),
    "a chunk size with 0x": post(CHUNKED, b"0x2\r\n{}\r\n0\r\n\r\n"),
    "a negative chunk size": post(CHUNKED, b"-2\r\n{}\r\n0\r\n\r\n"),
    "an empty chunk size": post(CHUNKED, b"\r\n{}\r\n0\r\n\r\n"),
    "a chunk size beyond 64 bits": post(CHUNKED, b"10000000000000002\r\n{}\r\n0\r\n\r\n"),
    "a chunk longer than its size": post(CHUNKED, b"1\r\n{}\r\n0\r\n\r\n"),
    "a chunk with an extension": post(CHUNKED, b"2;a=b\r\n{}\r\n0\r\n\r\n"),
    "a chunk with a long extension": post(CHUNKED, b"2;" + b"a" * 70_000 + b"\r\n{}\r\n0\r\n\r\n"),
    "a chunk that ends with a bare LF": post(CHUNKED, b"2\n{}\n0\n\n"),
    "chunks of one byte": post(CHUNKED, b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"),
    "trailers": post(CHUNKED, b"2\r\n{}\r\n0\r\nx-fettle-client: root\r\n\r\n"),
    "a trailer that is a length": post(CHUNKED, b"2\r\n{}\r\n0\r\nContent-Length: 60\r\n\r\n"),
    "chunks above what a buffer holds": post(CHUNKED, b"c000\r\n" + b" " * 0xC000 + b"\r\n0\r\n\r\n"),
    # lines and headers
    "bare LF": post().replace(b"\r\n", b"\n"),
    "bare CR": post().replace(b"\r\n", b"\r"),
    "a folded header": post(b"X-Note: one\r\n two\r\n" + TWO),
    "a header folded from the first line": b"POST " + PATH + b" HTTP/1.1\r\n " + OK + TWO + END + BODY,
    "a CR inside a header": post(b"X-Note: a\rb\r\n" + TWO),
    "a NUL inside a header": post(b"X-Note: a\x00b\r\n" + TWO),
    "a NUL inside a name": post(b"X-\x00Note: a\r\n" + TWO),
    "a header without a colon": post(b"X-Note\r\n" + TWO),
    "a header without a name": post(b": value\r\n" + TWO),
    "a name with a blank": post(b"X Note: value\r\n" + TWO),
    "bytes above 127": post(b"X-Note: \xff\xfe\r\n" + TWO),
    "200 headers": post(b"X-Note: a\r\n" * 200 + TWO),
    "10,000 headers": post(b"X-Note: a\r\n" * 10_000 + TWO),
    "a header of 20 KB": post(b"X-Note: " + b"a" * 20_000 + b"\r\n" + TWO),
    "a header of 1 MB": post(b"X-Note: " + b"a" * 1_000_000 + b"\r\n" + TWO),
    # who is asked for
    "no Host": b"POST " + PATH + b" HTTP/1.1\r\n" + AUTH + JSON + TWO + END + BODY,
    "two Hosts": post(b"Host: other\r\n" + TWO),
    "a Host with a path": to(PATH, AUTH + JSON + b"Host: bot/healthz?\r\n"),
    "a Host with a user": to(PATH, AUTH + JSON + b"Host: bot@evil\r\n"),
    "a Host with a fragment": to(PATH, AUTH + JSON + b"Host: bot#\r\n"),
    "a Host with a comma": to(PATH, AUTH + JSON + b"Host: bot, evil\r\n"),
    "an empty Host": to(PATH, AUTH + JSON + b"Host:\r\n"),
    "an absolute target": to(b"http://bot" + PATH),
    "an absolute target of another host": to(b"http://evil" + PATH),
    "an absolute target with a user": to(b"http://bot@evil" + PATH),
    "an absolute target of a closed path": to(b"http://bot/v1/load_lora_adapter"),
    "an absolute target without a path": to(b"http://bot"),
    # which path
    "a path that is not listed": to(b"/v1/load_lora_adapter"),
    "a path climbing out": to(b"/v1/../adapters"),
    "a path climbing back": to(b"/x/.." + PATH),
    "a path with %2e": to(b"/v1/%2e%2e/adapters"),
    "a path with %00": to(PATH + b"%00"),
    "a path with a NUL": to(PATH + b"\x00"),
    "a path with a semicolon": to(PATH + b";/adapters"),
    "a path with a backslash": to(b"\\v1\\chat\\completions"),
    "a path with two slashes": to(b"/" + PATH),
    "a path with a fragment": to(PATH + b"#/adapters"),
    "a path with a query": to(PATH + b"?path=/adapters"),
    "a path with a blank": to(PATH + b" /adapters"),
    "a path with unicode": to("/v1/chat/completions\u2215".encode()),
    "a path of 60 KB": to(b"/" + b"a" * 60_000),
    "an asterisk": to(b"*"),
    "an empty target": to(b""),
    # methods and versions
    "CONNECT": b"CONNECT bot:8000 HTTP/1.1\r\n" + OK + END,
    "TRACE": b"TRACE " + PATH + b" HTTP/1.1\r\n" + OK + END,
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\n" + OK + END,
    "a method in small letters": post(line=b"post " + PATH + b" HTTP/1.1\r\n"),
    "a method that overrides": b"GET " + PATH + b" HTTP/1.1\r\nX-HTTP-Method-Override: POST\r\n" + OK + END,
    "a method of 1 KB": post(line=b"A" * 1000 + b" " + PATH + b" HTTP/1.1\r\n"),
    "HTTP/0.9": b"GET " + PATH + b"\r\n\r\n",
    "HTTP/1.0": post(line=b"POST " + PATH + b" HTTP/1.0\r\n"),
    "HTTP/1.2": post(line=b"POST " + PATH + b" HTTP/1.2\r\n"),
    "HTTP/2.0": post(line=b"POST " + PATH + b" HTTP/2.0\r\n"),
    "HTTP/11": post(line=b"POST " + PATH + b" HTTP/11\r\n"),
    "the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00" * 9,
    "an upgrade to h2c": post(
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAA\r\n" + TWO
    ),
    "an upgrade to a WebSocket": get(PATH, OK + b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    "a TLS hello": bytes.fromhex("16030100c8010000c40303") + b"\x00" * 200,
    "the PROXY protocol": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + post(),
    # the rest
    "headers named in Connection": post(b"Connection: x-fettle-revision, authorization\r\n" + TWO),
    "Expect": post(b"Expect: 100-continue\r\n" + TWO),
    "an unknown Expect": post(b"Expect: 200-ok\r\n" + TWO),
    "two requests in one write": post() + post(),
    "a good request and a closed one": post() + SMUGGLED,
    "a closed request and a good one": to(b"/adapters") + post(),
    "no key": b"POST " + PATH + b" HTTP/1.1\r\n" + HOST + JSON + TWO + END + BODY,
    "a key in the query": b"POST "
    + PATH
    + b"?api_key="
    + KEY.encode()
    + b" HTTP/1.1\r\n"
    + HOST
    + JSON
    + TWO
    + END
    + BODY,
    "a pin that is made up": post(b"x-fettle-revision: ../rev-a\r\n" + TWO),
    "two pins": post(b"x-fettle-revision: rev-a\r\nx-fettle-revision: rev-b\r\n" + TWO),
    "two models in the body": post(b"Content-Length: 36\r\n", b'{"model":"bot","model":"bot@rev-b" }'),
    "a body cut short": post(b"Content-Length: 10\r\n"),
    "only the first line": b"POST " + PATH + b" HTTP/1.1\r\n",
    "nothing but line ends": b"\r\n\r\n\r\n",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pod() -> AsyncIterator[Backend]:
    async with backend() as stand_in:
        yield stand_in


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router(pod: Backend) -> AsyncIterator[Router]:
    async with running() as started:
        await started.serve(table(), [pod.endpoint])
        yield started


async def test_the_list_is_long_enough() -> None:
    assert len(MESSAGES) >= 80


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def answers(router: Router) -> dict[str, bytes]:
    """Every message sent, each on a connection of its own."""
    at_once = asyncio.Semaphore(16)

    async def send(message: bytes) -> bytes:
        async with at_once:
            return await exchange(router.port, message)

    received = await asyncio.gather(*(send(message) for message in MESSAGES.values()))
    return dict(zip(MESSAGES, received, strict=True))


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_hostile_message_is_refused_or_answered_as_an_ordinary_request(
    answers: dict[str, bytes], pod: Backend, name: str
) -> None:
    answer = answers[name]

    assert not answer or answer.startswith((b"HTTP/1.1 ", b"HTTP/1.0 "))
    assert not re.search(rb"HTTP/1.\d 5\d\d", answer)
    answered = re.findall(rb"HTTP/1.\d 200.*?x-request-id: (\S+)", answer, re.DOTALL)
    assert {word.decode() for word in answered} <= {
        request.headers["x-request-id"] for request in pod.received
    }


async def test_the_pod_saw_nothing_but_ordinary_authorised_requests(
    answers: dict[str, bytes], pod: Backend
) -> None:
    everything = b"".join(answers.values()).decode("latin-1")

    assert pod.received
    for request in pod.received:
        assert request.headers["x-request-id"] in everything
        assert request.line in {f"POST {CHAT} HTTP/1.1", f"POST {CHAT} HTTP/1.0"}
        assert request.headers["x-fettle-client"] == "team-a"
        assert request.headers["x-fettle-revision"] in {"rev-a", "rev-b", "rev-c"}
        assert request.headers["host"] == "bot"
        assert request.raw.lower().count(b"x-fettle-client") == 1
        framing = {"content-length", "transfer-encoding"} & request.headers.keys()
        assert len(framing) <= 1
        assert request.line.endswith("1.1") or "transfer-encoding" not in framing
        assert not {"authorization", "upgrade", "http2-settings", "trailer"} & request.headers.keys()


async def exchange(port: int, message: bytes) -> bytes:
    """Send everything and read all answers until the other side has nothing more to say."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = b""
    with contextlib.suppress(ConnectionError):
        writer.write(message)
        await writer.drain()
    with contextlib.suppress(ConnectionError, TimeoutError):
        while block := await asyncio.wait_for(reader.read(65536), QUIET_S):
            received += block
    writer.transport.abort()
    return received


async def test_silent_and_dripping_connections_are_closed_while_others_are_served(router: Router) -> None:
    before = await connections(router)
    silent = [await asyncio.open_connection("127.0.0.1", router.port) for _ in range(500)]
    dripping = [await asyncio.open_connection("127.0.0.1", router.port) for _ in range(500)]
    drips = [asyncio.create_task(drip(writer)) for _, writer in dripping]

    assert (await router.post()).status == 200

    async with asyncio.timeout(15):
        await asyncio.gather(*(until_closed(reader) for reader, _ in [*silent, *dripping]))
    assert (await router.post()).status == 200
    for task in drips:
        task.cancel()
    for _, writer in [*silent, *dripping]:
        writer.transport.abort()

    async def is_quiet() -> bool:
        return await connections(router) <= before + 1

    await eventually(is_quiet, "their connections are gone")


async def connections(router: Router) -> int:
    counted = re.search(r"CurrConns: (\d+)", await router.engine.runtime._ask("show info"))
    assert counted
    return int(counted[1])


async def drip(writer: asyncio.StreamWriter) -> None:
    """Send a header byte by byte, for ever."""
    with contextlib.suppress(ConnectionError):
        writer.write(b"POST " + PATH + b" HTTP/1.1\r\nX-Drip: ")
        while True:
            writer.write(b"a")
            await asyncio.sleep(0.5)


async def until_closed(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        while await reader.read(65536):
            pass
