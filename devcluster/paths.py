"""Where devcluster keeps what: a cache that outlives clusters, and one state folder per cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_INSTANCE = "default"


def cache_root(environ: Mapping[str, str] = os.environ) -> Path:
    """Return Fettle's cache folder: built binaries, the registry's storage, containerd's images."""
    if chosen := environ.get("FETTLE_CACHE"):
        return Path(chosen).absolute()
    if xdg := environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "fettle"
    return Path(environ.get("HOME", "/root")) / ".cache" / "fettle"


def state_root(instance: str = DEFAULT_INSTANCE, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of one cluster; everything in it belongs to that cluster and goes with it."""
    root = Path(environ.get("FETTLE_DEVCLUSTER_STATE") or "/var/lib/fettle-devcluster").absolute()
    return root if instance == DEFAULT_INSTANCE else root.with_name(f"{root.name}-{instance}")
