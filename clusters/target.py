"""What every place where the product can run has in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path


class Cluster(Protocol):
    """A cluster, whoever runs it."""

    def up(self, *, nodes: int, fake_gpus: int) -> None:
        """Bring it up, or make sure that it is up."""

    def down(self) -> None:
        """Remove it and everything that belongs to it."""

    def status(self) -> int:
        """Print what runs; the result is an exit code, 0 when all is well."""

    def kubeconfig(self) -> Path:
        """Return the path of a kubeconfig whose current context is this cluster."""

    def registry(self) -> str:
        """Return the address that images are pushed to, as this machine sees it; start the registry if need be."""
