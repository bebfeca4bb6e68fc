"""`python -m fettle_server`: reads flags and environment, nowhere else; serves until it is told to stop.

Exit codes: 0 stopped by a signal, 1 something broke, 2 the settings or the base model are wrong.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Final

from fettle_server.engine.types import BaseRefusedError
from fettle_server.errors import InvalidSettings
from fettle_server.logs import configure_logging
from fettle_server.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_log: Final = logging.getLogger("fettle_server")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the model server."""
    try:
        settings = load_settings(arguments, os.environ)
    except InvalidSettings as error:
        sys.stderr.write(f"fettle-server: {error}\n")
        return 2
    configure_logging(settings.log_level)
    # The model stack takes seconds to import: wrong settings are told before that.
    from fettle_server.serve import run  # noqa: PLC0415

    try:
        run(settings)
    except (InvalidSettings, BaseRefusedError) as error:
        _log.error("%s", error)
        return 2
    except Exception:  # noqa: BLE001 - whatever ended the process is told in the log
        _log.exception("the server broke")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
