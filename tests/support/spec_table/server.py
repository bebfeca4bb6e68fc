"""What the API server says about many objects, asked over a few connections kept open."""

import http.client
import json
import ssl
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import local
from typing import Any, Protocol
from urllib.parse import urlsplit

from fettle_operator.api.kinds import KINDS

__all__ = ["Client", "Verdict"]

CONNECTIONS = 4
_PLURALS = {kind.info.kind: kind.info.plural for kind in KINDS}
_TIMEOUT_S = 30


class Server(Protocol):
    """Where the API server is; the `apiserver` fixture gives one."""

    @property
    def url(self) -> str: ...
    @property
    def ca(self) -> Any: ...
    @property
    def token(self) -> str: ...


@dataclass(frozen=True)
class Verdict:
    """The answer to one object."""

    status: int
    body: dict[str, Any]

    @property
    def accepted(self) -> bool:
        """Whether the object was taken."""
        return self.status in {200, 201}

    @property
    def message(self) -> str:
        """The refusal in words."""
        return str(self.body.get("message", ""))

    @property
    def fields(self) -> set[str]:
        """The paths that the refusal names."""
        causes = self.body.get("details", {}).get("causes", [])
        return {str(cause["field"]) for cause in causes if "field" in cause}


class Client:
    """Asks the API server; usable from several threads."""

    def __init__(self, server: Server, namespace: str) -> None:
        self._address = urlsplit(server.url)
        self._tls = ssl.create_default_context(cafile=str(server.ca))
        self._headers = {"Authorization": f"Bearer {server.token}"}
        self._namespace = namespace
        self._own = local()

    def dry_run_all(
        self, manifests: Iterable[dict[str, Any]], validation: str = "Strict"
    ) -> Sequence[Verdict]:
        """Return what a create of each object would give, in order; nothing is stored."""
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            return list(
                pool.map(
                    lambda manifest: self.create(manifest, dry_run=True, validation=validation), manifests
                )
            )

    def create(
        self, manifest: dict[str, Any], *, dry_run: bool = False, validation: str = "Strict"
    ) -> Verdict:
        """Create an object, or ask what would happen."""
        return self._ask("POST", self._path(manifest), manifest, dry_run, validation)

    def replace(self, manifest: dict[str, Any], *, subresource: str = "", dry_run: bool = False) -> Verdict:
        """Replace an object or its status, or ask what would happen."""
        name = manifest["metadata"]["name"]
        path = f"{self._path(manifest)}/{name}" + (f"/{subresource}" if subresource else "")
        return self._ask("PUT", path, manifest, dry_run, "Strict")

    def get(
        self, kind: str, name: str = "", subresource: str = "", accept: str = "application/json"
    ) -> Verdict:
        """Read an object, a part of it, or all objects of a kind."""
        place = "/".join(part for part in (_PLURALS[kind], name, subresource) if part)
        path = f"/apis/fettle.dev/v1alpha1/namespaces/{self._namespace}/{place}"
        return self._send("GET", path, None, "application/json", accept)

    def delete_all(self, kind: str) -> Verdict:
        """Delete all objects of a kind."""
        path = f"/apis/fettle.dev/v1alpha1/namespaces/{self._namespace}/{_PLURALS[kind]}"
        return self._send("DELETE", path, None, "application/json")

    def apply(self, manifest: dict[str, Any], manager: str) -> Verdict:
        """Apply an object on the server's side, as `kubectl apply --server-side` does."""
        path = f"{self._path(manifest)}/{manifest['metadata']['name']}?fieldManager={manager}"
        return self._send("PATCH", path, manifest, "application/apply-patch+yaml")

    def _path(self, manifest: dict[str, Any]) -> str:
        plural = _PLURALS[manifest["kind"]]
        return f"/apis/{manifest['apiVersion']}/namespaces/{self._namespace}/{plural}"

    def _ask(
        self, method: str, path: str, manifest: dict[str, Any], dry_run: bool, validation: str
    ) -> Verdict:
        query = f"?fieldValidation={validation}" + ("&dryRun=All" if dry_run else "")
        return self._send(method, path + query, manifest, "application/json")

    def _send(
        self,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        content_type: str,
        accept: str = "application/json",
    ) -> Verdict:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            host, port = self._address.hostname or "", self._address.port
            connection = http.client.HTTPSConnection(host, port, context=self._tls, timeout=_TIMEOUT_S)
            self._own.connection = connection
        text = None if body is None else json.dumps(body)
        connection.request(
            method, path, body=text, headers=self._headers | {"Content-Type": content_type, "Accept": accept}
        )
        with connection.getresponse() as answer:
            return Verdict(answer.status, json.loads(answer.read()))
