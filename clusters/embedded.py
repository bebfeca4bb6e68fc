"""The embedded cluster (devcluster/), run through its own command line."""

from __future__ import annotations

import sys
from pathlib import Path

from clusters.programs import ask, call, must


class EmbeddedCluster:
    """A real Kubernetes on this machine, without Docker."""

    def up(self, *, nodes: int, fake_gpus: int) -> None:
        """Bring it up, or make sure that it is up."""
        must(_devcluster("up", "--nodes", str(nodes), "--fake-gpus", str(fake_gpus)))

    def down(self) -> None:
        """Remove it and everything that belongs to it."""
        must(_devcluster("down"))

    def status(self) -> int:
        """Print what runs; the result is an exit code, 0 when all is well."""
        return call(_devcluster("status"))

    def kubeconfig(self) -> Path:
        """Return the path of its kubeconfig."""
        return Path(ask(_devcluster("kubeconfig")))

    def registry(self) -> str:
        """Return the address of the local registry, which needs no cluster to run."""
        return ask(_devcluster("registry"))


def _devcluster(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "devcluster", *arguments]
