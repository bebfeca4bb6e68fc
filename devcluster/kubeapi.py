"""A small client of the Kubernetes API, enough to look at things, apply manifests and clean up."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

from devcluster.errors import DevclusterError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devcluster.certs import KeyPair

_TIMEOUT_S = 10
FIELD_MANAGER = "fettle-devcluster"


class ApiError(DevclusterError):
    """The API server answered with an error."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the API server answered {status}: {message}")
        self.status = status


class KubeApi:
    """The API server behind one address, spoken to with one client certificate."""

    def __init__(self, url: str, ca: Path, client: KeyPair) -> None:
        self.url = url
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(str(client.cert), str(client.key))
        # An empty proxy table: the API server is never behind the proxy that the environment may name.
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=context), urllib.request.ProxyHandler({})
        )

    def request(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Any:
        """Send one request and return the decoded answer; `ApiError` carries what the server refused."""
        request = urllib.request.Request(  # noqa: S310 -- our own https address
            self.url + path,
            method=method,
            data=json.dumps(body).encode() if body is not None else None,
            headers={"Content-Type": content_type, "Accept": accept},
        )
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                content = answer.read()
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, _message(error.read())) from error
        except (OSError, ssl.SSLError) as error:
            raise ApiError(0, f"{self.url} cannot be reached: {error}") from error
        try:
            return json.loads(content)
        except json.JSONDecodeError:
            return content.decode(errors="replace")

    def find(self, path: str) -> dict[str, Any] | None:
        """Return one object, or None where there is none."""
        try:
            found: dict[str, Any] = self.request("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return found

    def apply(self, path: str, manifest: Mapping[str, Any]) -> None:
        """Bring an object to the state of a manifest, whether it exists or not (server-side apply)."""
        query = f"?fieldManager={FIELD_MANAGER}&force=true"
        self.request("PATCH", path + query, manifest, content_type="application/apply-patch+yaml")

    def delete(self, path: str) -> None:
        """Delete one object or one collection; one that is gone already is fine."""
        try:
            self.request("DELETE", path, {"kind": "DeleteOptions", "apiVersion": "v1"})
        except ApiError as error:
            if error.status != 404:
                raise

    def answers(self, path: str) -> bool:
        """Tell whether a GET of the path succeeds now."""
        try:
            self.request("GET", path)
        except ApiError:
            return False
        return True


def _message(content: bytes) -> str:
    try:
        return str(json.loads(content)["message"])
    except (ValueError, KeyError, TypeError):
        return content.decode(errors="replace").strip()
