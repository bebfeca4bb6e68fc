"""Storages for kopf that keep nothing and copy nothing.

kopf compares every event's object with what it handled last, for handlers of changes, and makes deep copies for that.
There are only low-level handlers here (docs/adr/0003): the copies were two fifths of the operator's work.
"""

from collections.abc import Iterable
from typing import Any

import kopf

__all__ = ["NoDiffBase", "NoProgress"]


class NoDiffBase(kopf.DiffBaseStorage):
    """Sees no difference between any two states of an object."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:  # noqa: ARG002 - kopf's interface
        """Return an essence without anything in it."""
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:  # noqa: ARG002 - as above
        """Remember nothing."""
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Write nothing."""


class NoProgress(kopf.ProgressStorage):
    """Knows of no handler that is under way."""

    def fetch(self, *, key: Any, body: kopf.Body) -> None:  # noqa: ARG002 - kopf's interface
        """Remember nothing."""
        return

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Write nothing."""

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None:
        """Remove nothing."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Write nothing."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """Return it as it is: nothing of kopf's is in it."""
        return essence
