"""A cluster that somebody else runs, named by its context."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from clusters import kubeconfigs
from clusters.errors import ClustersError
from clusters.programs import call, find, must

if TYPE_CHECKING:
    from pathlib import Path


class ExplicitCluster:
    """The cluster behind FETTLE_CONTEXT: used as it is, never created and never removed."""

    def __init__(self, context: str, state: Path) -> None:
        self._context = context
        self._state = state

    def up(self, *, nodes: int, fake_gpus: int) -> None:  # noqa: ARG002 (its nodes are what they are)
        """Make sure that it answers."""
        must([find("kubectl"), f"--context={self._context}", "get", "--raw=/readyz"])

    def down(self) -> None:
        """Refuse: whoever made the cluster removes it."""
        raise ClustersError(
            f"FETTLE_CONTEXT names {self._context!r}, and a named cluster is never removed; "
            "unset FETTLE_CONTEXT to remove the local one"
        )

    def status(self) -> int:
        """Print its nodes."""
        return call([find("kubectl"), f"--context={self._context}", "get", "nodes"])

    def kubeconfig(self) -> Path:
        """Write a kubeconfig that leads to this cluster and to no other, and return its path."""
        # JSON is YAML, so every client reads it.
        text = json.dumps(kubeconfigs.minified(self._context))
        self._state.mkdir(parents=True, exist_ok=True)
        file = self._state / "context.kubeconfig"
        fresh = self._state / f"context.{os.getpid()}"
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
        fresh.replace(file)
        return file

    def registry(self) -> str:
        """Return the registry that the user named for this cluster."""
        if address := os.environ.get("FETTLE_REGISTRY"):
            return address
        raise ClustersError(
            "FETTLE_CONTEXT is set, so the registry must be named too: set FETTLE_REGISTRY to the address "
            "that images are pushed to and that the cluster's nodes use for registry.fettle.dev"
        )
