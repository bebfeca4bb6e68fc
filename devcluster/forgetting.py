"""Forgetting images that newer ones have replaced, so that the caches do not grow with every change.

Only the newest tag of each repository is kept. An older one that is wanted again is pushed again: most of it is a
layer that the newest shares. Nothing is forgotten while another cluster of the machine may be using it.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from devcluster.plan import REGISTRY_NAME
from devcluster.shell import run

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_REPOSITORIES = "docker/registry/v2/repositories"
_TIMEOUT_S = 300


def forget_old_tags(storage: Path, program: Path, configuration: Path) -> None:
    """Remove all but the newest tag of each repository, and what no tag needs. The registry must not run."""
    old = [tag for tags in (storage / _REPOSITORIES).glob("**/_manifests/tags") for tag in superseded(tags)]
    if not old:
        return
    for tag in old:
        shutil.rmtree(tag)
    run([program, "garbage-collect", "--delete-untagged", configuration], timeout_s=_TIMEOUT_S)


def superseded(tags: Path) -> list[Path]:
    """Return the folders of all tags but the one that was pushed last."""
    pushed = sorted(tags.iterdir(), key=lambda tag: (tag / "current/link").stat().st_mtime_ns)
    return pushed[:-1]


def tags_in(storage: Path) -> set[str]:
    """Return the references of all tags that the registry holds, as image names of the cluster."""
    repositories = storage / _REPOSITORIES
    return {
        f"{REGISTRY_NAME}/{tags.parent.parent.relative_to(repositories)}:{tag.name}"
        for tags in repositories.glob("**/_manifests/tags")
        for tag in tags.iterdir()
    }


def forgotten(listed: Iterable[tuple[str, str]], kept: set[str]) -> list[str]:
    """Return the names, of those a node knows (name, digest), of images that the registry no longer holds.

    One image goes by several names: its tag, its digest, and the id that the runtime gave it.
    """
    images = list(listed)
    needed = {
        digest for name, digest in images if name in kept or not name.startswith((REGISTRY_NAME, "sha256:"))
    }
    return [
        name
        for name, digest in images
        if name.startswith((REGISTRY_NAME, "sha256:")) and digest not in needed
    ]
