"""The Debian packages that building without a container engine needs."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from images.errors import ImagesError
from images.programs import say, work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Program to the package that brings it.
BUILDER: Mapping[str, str] = {"buildah": "buildah"}
BASE: Mapping[str, str] = {"debootstrap": "debootstrap"}
_LOCK_TIMEOUT_S = 900


def missing(needed: Mapping[str, str]) -> list[str]:
    """Return the packages whose program is not on PATH."""
    return sorted({package for program, package in needed.items() if shutil.which(program) is None})


def install(needed: Mapping[str, str]) -> None:
    """Install what is missing, or say who can."""
    packages = missing(needed)
    if not packages:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise ImagesError(
            f"images are built with Docker, Podman, or buildah as root; without an engine this is missing: "
            f"{', '.join(packages)}"
        )
    say(f"installing {', '.join(packages)}")
    for command in apt_commands(packages):
        work("install packages", command)


def apt_commands(packages: Sequence[str]) -> list[list[str]]:
    """Return the commands that install packages, waiting for whoever else uses apt now."""
    apt = [
        "env",
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "-o",
        f"DPkg::Lock::Timeout={_LOCK_TIMEOUT_S}",
        "-qq",
    ]
    return [[*apt, "update"], [*apt, "install", "-y", "--no-install-recommends", *packages]]
