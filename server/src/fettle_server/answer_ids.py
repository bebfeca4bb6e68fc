"""Ids of answers: nobody can guess one, and each tells the router which pod can be asked about it.

An answer is rated by its id, at the pod that gave it. Pods share nothing, and several routers give their servers different
numbers; what all of them know of a pod is where it listens. So an id ends with a digest of that, by which a router finds
the pod; `fettle_router.pods` makes the same.
"""

from __future__ import annotations

import functools
import hashlib
import ipaddress
import secrets
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fettle_server.layer.asgi import Scope

__all__ = ["new_id", "pod_tag"]

_TAG_DIGITS: Final = 8


def new_id(scope: Scope) -> str:
    """Return an id for an answer to a request: 16 random bytes, and whose answer it is."""
    secret = secrets.token_hex(16)
    address = scope.get("server")
    return f"{secret}-{pod_tag(*address)}" if address and address[1] else secret


@functools.lru_cache(maxsize=64)
def pod_tag(host: str, port: int) -> str:
    """Return what stands for the pod that listens at an address."""
    return hashlib.sha256(f"{_canonical(host)} {port}".encode()).hexdigest()[:_TAG_DIGITS]


def _canonical(host: str) -> str:
    """Spell an address in the one way; a socket for both families shows IPv4 inside of IPv6."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    inside = getattr(address, "ipv4_mapped", None)
    return str(inside or address)
