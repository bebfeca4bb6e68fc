"""Decides where the product runs. Pure: what is known about the machine comes in, the choice goes out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from clusters.errors import ClustersError

Engine = Literal["docker", "podman"]
Target = Literal["context", "kind", "devcluster"]


@dataclass(frozen=True)
class Machine:
    """What decides."""

    context: str | None = None
    """The context that the user named explicitly."""
    known_contexts: frozenset[str] = field(default_factory=frozenset)
    """The contexts of the user's kubeconfig."""
    own_contexts: frozenset[str] = field(default_factory=frozenset)
    """Those of them that lead to a cluster which this program created."""
    allow_foreign: bool = False
    engine: Engine | None = None
    """The container engine that answers."""
    is_linux: bool = True
    is_root: bool = False
    running: Target | None = None
    """The kind of local cluster that was brought up and not yet taken down."""


@dataclass(frozen=True)
class Choice:
    """Where the product runs."""

    target: Target
    context: str | None = None
    engine: Engine | None = None

    def __str__(self) -> str:
        """Say it for people."""
        match self.target:
            case "context":
                return f"context {self.context}"
            case "kind":
                return f"kind ({self.engine})"
            case "devcluster":
                return "devcluster"


def choose(machine: Machine) -> Choice:
    """Return where the product runs, or refuse in one sentence that names what is missing."""
    if machine.context is not None:
        return _explicit(machine, machine.context)
    embedded_possible = machine.is_linux and machine.is_root
    # What runs already stays the choice, even if an engine appeared or vanished for a moment meanwhile.
    if machine.running == "devcluster" and embedded_possible:
        return Choice("devcluster")
    if machine.running == "kind" and machine.engine is None:
        raise ClustersError(
            "the kind cluster `fettle` was created here, but neither Docker nor Podman answers now; start the engine"
        )
    if machine.engine is not None:
        return Choice("kind", engine=machine.engine)
    if embedded_possible:
        return Choice("devcluster")
    if machine.is_linux:
        raise ClustersError(
            "no place to run a cluster: neither Docker nor Podman answers, and the embedded cluster needs root; "
            "start an engine, run the command as root, or name a kubeconfig context in FETTLE_CONTEXT"
        )
    raise ClustersError(
        "no place to run a cluster: neither Docker nor Podman answers, and the embedded cluster needs Linux; "
        "start an engine, or name a kubeconfig context in FETTLE_CONTEXT"
    )


def _explicit(machine: Machine, context: str) -> Choice:
    if context not in machine.known_contexts:
        raise ClustersError(
            f"FETTLE_CONTEXT names {context!r}, which the kubeconfig does not have; "
            f"it has: {', '.join(sorted(machine.known_contexts)) or 'none'}"
        )
    if context not in machine.own_contexts and not machine.allow_foreign:
        raise ClustersError(
            f"the context {context!r} leads to a cluster that was not created here, so it is left alone; "
            "if it may be changed, say so with FETTLE_ALLOW_CONTEXT=1 or --allow-foreign"
        )
    return Choice("context", context=context, engine=machine.engine)
