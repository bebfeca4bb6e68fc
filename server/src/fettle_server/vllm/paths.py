"""What of vLLM's surface is reachable: a short list, everything else does not exist.

vLLM serves dozens of paths on the same port, some of which load adapters, run code of other APIs or show what is
inside (/invocations, /pooling, /tokenize, /v1/load_lora_adapter, /collective_rpc …); its own API key guards only
part of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fettle_server.layer.asgi import Refused
from fettle_server.layer.measuring import ANSWER_PATHS

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["check_path"]

_READ: Final = frozenset({"/healthz", "/readyz", "/metrics", "/usage", "/v1/models"})
_WRITTEN: Final = ANSWER_PATHS | {"/feedback"}
_OPERATOR: Final = frozenset({"/adapters", "/shadow"})
_LISTED_MODEL: Final = "/v1/models/"


def check_path(method: str, path: str, extra: Collection[str]) -> None:
    """Refuse what is not meant for anybody."""
    if path in _WRITTEN:
        allowed: tuple[str, ...] = ("POST",)
    elif path in _READ or path.startswith(_LISTED_MODEL):
        allowed = ("GET",)
    elif path in _OPERATOR:
        allowed = ("GET", "PUT")
    elif path in extra:
        allowed = ("GET", "POST")
    else:
        raise Refused(404, "not_found", "There is nothing at this path.")
    if method not in allowed:
        raise Refused(405, "method_not_allowed", f"This path takes {' and '.join(allowed)}.")
