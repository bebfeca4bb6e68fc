"""Names of children: deterministic, readable, and never longer than Kubernetes allows."""

import hashlib
import json
from typing import Any

__all__ = ["child_name", "digest_of"]

_NAME_MAX = 63
"""Pods carry the name of their Job as a label value, and label values end here."""


def child_name(owner: str, *parts: str) -> str:
    """Join the owner's name and the parts; a long owner's name is cut and told apart by a digest."""
    tail = "".join(f"-{part}" for part in parts)
    if len(owner) + len(tail) <= _NAME_MAX:
        return owner + tail
    mark = f"-{digest_of(owner, length=6)}"
    kept = owner[: _NAME_MAX - len(tail) - len(mark)].rstrip("-.")
    return kept + mark + tail


def digest_of(value: Any, length: int = 8) -> str:
    """Return a short digest of a JSON value; equal values give equal digests whatever their key order."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]
