"""Finds out what this machine offers: the facts that `choice` decides on."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from clusters import kubeconfigs
from clusters.choice import Engine, Machine
from clusters.programs import answers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clusters.record import Created

# `info` asks the engine itself; `version` would be content with the command-line program.
_QUESTIONS: Mapping[Engine, tuple[str, ...]] = {
    "docker": ("docker", "info", "--format", "{{.ServerVersion}}"),
    "podman": ("podman", "info", "--format", "{{.Version.Version}}"),
}


def look(created: list[Created], *, allow_foreign: bool, environ: Mapping[str, str] = os.environ) -> Machine:
    """Return the facts about this machine; kubeconfigs are only read when a context was named."""
    context = environ.get("FETTLE_CONTEXT") or None
    known: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    if context is not None:
        known = kubeconfigs.contexts()
        identities = {entry.identity for entry in created}
        if context in known and kubeconfigs.identity(context) in identities:
            own = frozenset({context})
    return Machine(
        context=context,
        known_contexts=known,
        own_contexts=own,
        allow_foreign=allow_foreign or environ.get("FETTLE_ALLOW_CONTEXT") == "1",
        engine=engine(),
        is_linux=sys.platform == "linux",
        is_root=os.geteuid() == 0,
        running=created[-1].target if created else None,
    )


def engine() -> Engine | None:
    """Return the container engine that answers; Docker first, because kind knows it best."""
    return next((name for name, question in _QUESTIONS.items() if answers(question)), None)
