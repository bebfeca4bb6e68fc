"""The environment that training runs in: no way to a hub, no secret that a library could leak.

Tokens are read from files by the code that downloads, before training begins. What a library finds in the environment
it may use, log or send; so credentials are taken out of it, whoever put them there.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Final

_OFFLINE: Final = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",  # nor the token that a login left in the home folder
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}
_SECRET: Final = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS|API_?KEY|ACCESS_KEY(_ID)?|ACCOUNT_KEY|SAS|PAT)(_|$)"
)
_NO_SECRETS: Final = frozenset({"HF_HUB_DISABLE_IMPLICIT_TOKEN"})
"""They match the words and hold no secret. A file's path is none either: see `_is_secret`."""


def seal_environment() -> tuple[str, ...]:
    """Take credentials out of this process' environment and switch the hub off; return the names taken out.

    Processes started from here on inherit both.
    """
    taken = tuple(sorted(name for name in os.environ if _is_secret(name)))
    for name in taken:
        del os.environ[name]
    os.environ.update(_OFFLINE)
    _tell_loaded_hub()
    return taken


def _is_secret(name: str) -> bool:
    upper = name.upper()
    return (
        bool(_SECRET.search(upper))
        and upper not in _NO_SECRETS
        and not upper.endswith(("_FILE", "_PATH", "_DIR", "_PARALLELISM"))
    )


def _tell_loaded_hub() -> None:
    """Switch off a hub client that was imported before; it has read its environment already."""
    constants = sys.modules.get("huggingface_hub.constants")
    if constants is not None:
        constants.HF_HUB_OFFLINE = True  # type: ignore[attr-defined]
        constants.HF_HUB_DISABLE_IMPLICIT_TOKEN = True  # type: ignore[attr-defined]
