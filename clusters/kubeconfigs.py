"""Reads kubeconfigs, through kubectl, so that every form of them is understood."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from clusters.programs import ask, find

if TYPE_CHECKING:
    from pathlib import Path


def contexts(kubeconfig: Path | None = None) -> frozenset[str]:
    """Return the names of all contexts; without a file, those of the user's own kubeconfig."""
    return frozenset(entry["name"] for entry in _view(kubeconfig).get("contexts") or [])


def identity(context: str, kubeconfig: Path | None = None) -> str:
    """Return what tells one cluster from another whatever its context is called: its address and its authority."""
    cluster = minified(context, kubeconfig)["clusters"][0]["cluster"]
    told = json.dumps([cluster.get("server"), cluster.get("certificate-authority-data")])
    return hashlib.sha256(told.encode()).hexdigest()


def minified(context: str, kubeconfig: Path | None = None) -> dict[str, Any]:
    """Return a kubeconfig that holds this context alone, with every certificate inside."""
    return _view(kubeconfig, "--minify", "--flatten", "--raw", f"--context={context}")


def _view(kubeconfig: Path | None, *options: str) -> dict[str, Any]:
    chosen = [] if kubeconfig is None else [f"--kubeconfig={kubeconfig}"]
    view: dict[str, Any] = json.loads(
        ask([find("kubectl"), "config", "view", *chosen, "--output=json", *options])
    )
    return view
