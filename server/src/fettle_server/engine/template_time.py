"""A bound on the time of a chat template, which is a program of whoever made the adapter.

A thread cannot be ended from outside. Python tells a thread's own tracer of every call, and of every line of code where
it asks for that: enough to end a template that loops, at a place where ending is safe.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["TemplateTooSlowError", "at_most"]

_TEMPLATE: Final = "<template>"
"""What Jinja calls the file of code that it has made from a text."""


class TemplateTooSlowError(Exception):
    """A template has not come to its end in time."""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raise TemplateTooSlowError in templates that need more of the processor than this; in this thread only."""
    end = time.thread_time() + seconds

    def watch(frame: FrameType, _event: str, _argument: Any) -> Any:
        if time.thread_time() > end:
            raise TemplateTooSlowError(f"it needs more than {seconds:g} s")
        return watch if frame.f_code.co_filename == _TEMPLATE else None

    former = sys.gettrace()
    sys.settrace(watch)
    try:
        yield
    finally:
        sys.settrace(former)
