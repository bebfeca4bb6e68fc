"""A stand-in for the Hugging Face hub on loopback: the part of its API that downloading a repository needs."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Serves the one revision `main` of the repositories it is given."""

    repositories: dict[str, dict[str, bytes]]
    """`datasets/org/name` or `models/org/name`, and the files there."""
    seen: list[tuple[str, str]]
    """Path and Authorization of every request."""
    parts: list[str]
    """The paths of which only a part was asked for."""
    token: str | None

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def answer(self, *, body: bool) -> None:
        authorization = self.headers.get("Authorization", "")
        type(self).seen.append((self.path, authorization))
        if self.token is not None and authorization != f"Bearer {self.token}":
            self.send(401, b"", {"X-Error-Code": "GatedRepo"}, body=body)
            return
        for name, files in self.repositories.items():
            kind, _, repository = name.partition("/")
            # A model's files have no prefix, a dataset's have one.
            place = repository if kind == "models" else name
            if self.path.startswith((f"/api/{name}/revision/main", f"/api/{name}/revision/{COMMIT}")):
                listing = {
                    "id": repository,
                    "sha": COMMIT,
                    "siblings": [{"rfilename": file} for file in files],
                }
                self.send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"}, body=body)
                return
            if self.path.startswith(f"/api/{name}/tree/{COMMIT}"):
                tree = [
                    {"type": "file", "path": file, "size": len(data), "oid": _sha256(data)}
                    for file, data in files.items()
                ]
                self.send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"}, body=body)
                return
            if self.path.startswith(f"/api/{name}/"):
                self.send(404, b"", {"X-Error-Code": "RevisionNotFound"}, body=body)
                return
            if self.path.startswith(f"/{place}/resolve/{COMMIT}/"):
                data = files[self.path.partition(f"{COMMIT}/")[2]]
                etag = {"ETag": f'"{_sha256(data)}"', "X-Repo-Commit": COMMIT}
                self.send(*self.part_of(data), etag, body=body)
                return
        self.send(404, b"", {"X-Error-Code": "RepoNotFound"}, body=body)

    def part_of(self, data: bytes) -> tuple[int, bytes]:
        asked = self.headers.get("Range", "")
        if not asked:
            return 200, data
        type(self).parts.append(self.path)
        first, last = asked.removeprefix("bytes=").split("-")
        return 206, data[int(first) : int(last) + 1]

    def send(self, status: int, data: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(data))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@contextmanager
def hub_serving(repositories: dict[str, dict[str, bytes]]) -> Iterator[tuple[type[Hub], str]]:
    """Serve the repositories, and give the handler's class and the address for HF_ENDPOINT."""
    handler = type("Handler", (Hub,), {"repositories": repositories, "seen": [], "parts": [], "token": None})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield handler, f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
