"""The operator's log: one line per record on standard error, as JSON for machines or as text for people."""

import json
import logging
import sys
from datetime import UTC, datetime

from fettle_operator.settings import Logging

__all__ = ["configure_logging"]

# Chatty at INFO with what our own lines say better; their warnings matter.
_QUIET = ("kopf", "aiohttp", "asyncio")


class JsonFormatter(logging.Formatter):
    """One JSON object per record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure_logging(settings: Logging) -> None:
    """Send the whole process's log to standard error in the wanted format."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter()
        if settings.format == "json"
        else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    if settings.level != "debug":
        for name in _QUIET:
            logging.getLogger(name).setLevel(logging.WARNING)
        # On the handler: a filter of a logger does not see what the loggers below it write.
        handler.addFilter(_as_a_sentence)


def _as_a_sentence(record: logging.LogRecord) -> bool:
    """Take the traceback off what kopf logs: it tells of lost connections, not of bugs to be found."""
    error = record.exc_info[1] if record.exc_info else None
    if error is not None and record.name.startswith(_QUIET):
        record.msg, record.args = f"{record.getMessage()} ({type(error).__name__}: {error})", ()
        record.exc_info = record.exc_text = None
    return True
