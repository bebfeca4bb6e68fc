"""Asks a registry what it has."""

from __future__ import annotations

import urllib.error
import urllib.request

from images.builder import pushed_name

_TIMEOUT_S = 5
_OCI = "application/vnd.oci.image"
_DOCKER = "application/vnd.docker.distribution"
_MANIFESTS = f"{_OCI}.manifest.v1+json, {_OCI}.index.v1+json, {_DOCKER}.manifest.v2+json, {_DOCKER}.manifest.list.v2+json"


def has(reference: str, address: str) -> bool:
    """Return whether the registry at an address holds the image."""
    host, _, path = pushed_name(reference, address).partition("/")
    repository, _, tag = path.rpartition(":")
    request = urllib.request.Request(
        f"http://{host}/v2/{repository}/manifests/{tag}", method="HEAD", headers={"Accept": _MANIFESTS}
    )
    # A proxy of this machine knows nothing of a registry on it.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_TIMEOUT_S):
            return True
    except (urllib.error.URLError, TimeoutError):
        return False
