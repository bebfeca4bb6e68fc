"""Data behind a URL: fetched whole and true or not at all, and never from inside the network."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from dataset_checks import check, codes
from fettle_trainer.__main__ import main
from fettle_trainer.data import http as fetching
from fettle_trainer.data.http import Limits, is_public

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = b"".join(b'{"text": "row %d"}\n' % number for number in range(1000))
SHA256 = hashlib.sha256(BODY).hexdigest()
PIECES = 60
"""Not quite endless, so that a reader without limits fails its test and does not hang it."""
EVERYWHERE = Limits(allowed=lambda _: True, idle_seconds=0.5, total_seconds=1.5)


class Server(BaseHTTPRequestHandler):
    """Answers rightly under /data.jsonl, and wrongly under every other path."""

    requests: list[str]
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # noqa: C901 - one branch per misbehaviour
        type(self).requests.append(self.path)
        path = self.path.partition("?")[0].removesuffix("data.jsonl").strip("/")
        if path == "":
            self.answer(200, BODY)
        elif path == "loop":
            self.answer(302, b"", Location="/loop/data.jsonl")
        elif path == "moved":
            self.answer(301, b"", Location="/data.jsonl")
        elif path == "inwards":
            self.answer(307, b"", Location=f"http://127.0.0.2:{self.server.server_address[1]}/data.jsonl")
        elif path == "to-file":
            self.answer(302, b"", Location="file:///etc/passwd")
        elif path == "claims":
            self.answer(200, b"x", **{"Content-Length": str(10**12)})
        elif path == "cut":
            self.answer(200, BODY[:100], **{"Content-Length": str(len(BODY))})
        elif path == "endless":
            self.drip(BODY, pause=0)
        elif path == "drip":
            self.drip(b"x", pause=0.1)
        elif path == "silent":
            self.close_connection = True
            self.stop.wait(5)
        elif path == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self.close_connection = True
        else:
            self.answer(404, b"nothing here")

    stop: threading.Event

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def drip(self, piece: bytes, pause: float) -> None:
        self.send_response(200)
        self.end_headers()
        self.close_connection = True
        for _ in range(PIECES):
            if self.stop.wait(pause):
                return
            try:
                self.wfile.write(piece)
            except OSError:
                return

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def serving() -> Iterator[tuple[str, list[str]]]:
    handler = type("Handler", (Server,), {"requests": [], "stop": threading.Event()})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", handler.requests
        finally:
            handler.stop.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    with serving() as running:
        yield running


def source(url: str, **changes: Any) -> list[dict[str, Any]]:
    return [{"http": {"url": url, "sha256": SHA256, **changes}}]


@pytest.mark.parametrize("path", ["/data.jsonl", "/data.jsonl?version=2&x=%20", "/moved/data.jsonl"])
def test_a_file_is_fetched_and_read(path: str, server: tuple[str, list[str]]) -> None:
    url, requests = server

    report = check(train=source(url + path), validationSplit="0%", limits=EVERYWHERE)

    assert (report.passed, report.rows) == (True, 1000)
    assert report.files[0].sha256 == SHA256
    assert requests[0] == path


@pytest.mark.parametrize(
    ("path", "code", "sentence"),
    [
        ("/missing/data.jsonl", "SourceUnreachable", "answered 404 Not Found"),
        ("/loop/data.jsonl", "SourceUnreachable", "redirects more than 5 times"),
        ("/cut/data.jsonl", "SourceUnreachable", "IncompleteRead"),
        ("/reset/data.jsonl", "SourceUnreachable", "could not be fetched"),
        ("/silent/data.jsonl", "SourceUnreachable", "timed out"),
        ("/drip/data.jsonl", "SourceUnreachable", "it took too long"),
        ("/claims/data.jsonl", "TooLarge", "maxBytes"),
        ("/endless/data.jsonl", "TooLarge", "maxBytes"),
        ("/to-file/data.jsonl", "SourceForbidden", "no http or https address"),
        ("/data.txt", "FileKindUnknown", "no known suffix"),
    ],
)
def test_a_server_that_misbehaves_gives_a_finding(
    path: str, code: str, sentence: str, server: tuple[str, list[str]]
) -> None:
    report = check(train=source(server[0] + path, maxBytes=len(BODY)), limits=EVERYWHERE)

    assert (codes(report), report.rows, report.passed) == ([code], 0, False)
    assert sentence in report.findings[0].message


def test_another_content_than_the_one_named_is_refused(server: tuple[str, list[str]]) -> None:
    report = check(train=source(f"{server[0]}/data.jsonl", sha256="0" * 64), limits=EVERYWHERE)

    assert (codes(report), report.rows) == (["DigestMismatch"], 0)


def test_nobody_listening_and_no_such_name_give_a_finding() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/data.jsonl"
    assert codes(check(train=source(url), limits=EVERYWHERE)) == ["SourceUnreachable"]
    assert codes(check(train=source("http://name.invalid/data.jsonl"), limits=EVERYWHERE)) == [
        "SourceUnreachable"
    ]


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "0",
        "0.0.0.0",  # noqa: S104 - an address to refuse
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "127.0.0.1.",
        "user@127.0.0.1",
        "example.com@127.0.0.1",
        "example.com\\@127.0.0.1",
        "127.0.0.1\\.example.com",
    ],
)
def test_no_spelling_of_this_machine_is_fetched_from(host: str, server: tuple[str, list[str]]) -> None:
    url, requests = server
    port = url.rpartition(":")[2]

    report = check(train=source(f"http://{host}:{port}/data.jsonl"))

    assert codes(report)[0] in {"SourceForbidden", "SourceUnreachable"}
    assert requests == []


@pytest.mark.parametrize(
    "address",
    [
        "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "127.0.0.53", "0.1.2.3", "224.0.0.1",
        "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fd00::1", "ff02::1",
        "::ffff:10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1", "2001:0:a00:1::1", "2001:db8::1",
    ],
)  # fmt: skip
def test_an_inner_address_is_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "140.82.121.4", "2606:4700::1111"])
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


def test_a_redirect_inwards_is_not_followed(server: tuple[str, list[str]]) -> None:
    url, requests = server
    outer = Limits(allowed=lambda address: str(address) == "127.0.0.1")

    report = check(train=source(f"{url}/inwards/data.jsonl"), limits=outer)

    assert codes(report) == ["SourceForbidden"]
    assert requests == ["/inwards/data.jsonl"]


def test_a_name_that_changes_its_address_is_connected_to_where_it_was_checked(
    server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the second answer would lead inwards, so nobody may ask a second time."""
    asked: list[str] = []
    really = socket.getaddrinfo

    def resolve(host: str, *rest: Any, **named: Any) -> list[Any]:
        asked.append(host)
        return list(really("127.0.0.1", *rest, **named))

    monkeypatch.setattr(fetching.socket, "getaddrinfo", resolve)
    port = server[0].rpartition(":")[2]

    report = check(
        train=source(f"http://data.example.com:{port}/data.jsonl"), validationSplit="0%", limits=EVERYWHERE
    )

    assert report.rows == 1000
    assert asked.count("data.example.com") == 1


def test_a_name_with_one_inner_address_is_refused_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(_: str, port: int, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("1.1.1.1", "10.0.0.1")]

    monkeypatch.setattr(fetching.socket, "getaddrinfo", resolve)

    assert codes(check(train=source("http://data.example.com/data.jsonl"))) == ["SourceForbidden"]


def test_only_the_administrator_opens_an_inner_network(
    server: tuple[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run.json"
    document = {
        "model": {"path": "/models/base"},
        "dataset": {"train": source(f"{server[0]}/data.jsonl")},
        "output": {"directory": "/store", "adapterName": "a"},
    }
    run.write_text(json.dumps(document))

    assert main(["check", str(run)]) == 2
    monkeypatch.setenv("FETTLE_DATA_NETWORKS", "10.0.0.0/8 127.0.0.0/8")
    assert main(["check", str(run)]) == 0
    monkeypatch.setenv("FETTLE_DATA_NETWORKS", "my network")
    assert main(["check", str(run)]) == 2
    assert "FETTLE_DATA_NETWORKS is no list of networks" in capsys.readouterr().err
