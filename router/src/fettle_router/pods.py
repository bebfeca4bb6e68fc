"""How pods are named where no address may be shown: in the ids of their answers."""

import hashlib

from fettle_router.slots import Endpoint

__all__ = ["tag"]

_TAG_DIGITS = 8


def tag(endpoint: Endpoint) -> str:
    """Return what stands for a pod at the end of its answers' ids; `fettle_server.answer_ids` makes the same."""
    return hashlib.sha256(f"{endpoint.address} {endpoint.port}".encode()).hexdigest()[:_TAG_DIGITS]
