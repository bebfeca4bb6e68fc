"""The base image: Debian's own where a registry can be reached, else a minimal system from the Debian mirror."""

from __future__ import annotations

import hashlib
import os
import shutil
import ssl
import tempfile
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from images import packages
from images.builder import Recipe
from images.host import KEYRING, SUITE
from images.programs import ask, say, work

if TYPE_CHECKING:
    from collections.abc import Mapping

    from images.builder import Builder
    from images.host import Host

PUBLISHED = f"docker.io/library/debian:{SUITE}-slim"
_PROBE = "https://registry-1.docker.io/v2/"
_PROBE_TIMEOUT_S = 4
_DEBOOTSTRAP = ("debootstrap", "--variant=minbase", f"--keyring={KEYRING}", SUITE)
# What Debian's slim image leaves out too, and what only the making of the system needed.
_EMPTIED = (
    "dev", "usr/share/doc", "usr/share/info", "usr/share/locale", "usr/share/man",
    "var/cache/apt", "var/cache/debconf", "var/lib/apt/lists", "var/log",
)  # fmt: skip
# The mirror of the machine that builds is of no use where the image runs, and nothing is installed there.
_SOURCES = "# No package sources: this system is complete. Add your own mirror to install more.\n"
_DOCKERFILE = 'FROM scratch\nADD rootfs.tar /\nCMD ["bash"]\n'


def own_name() -> str:
    """Return the name of the base that is made here; it changes with the recipe."""
    recipe = repr((_DEBOOTSTRAP, _EMPTIED, _SOURCES, _DOCKERFILE))
    return f"localhost/fettle-base:{SUITE}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"


def choose(builder: Builder, *, embedded: bool, environ: Mapping[str, str] = os.environ) -> str:
    """Return the base image of all builds; it stays the same as long as it is there."""
    if named := environ.get("FETTLE_BASE_IMAGE"):
        return named
    # An engine pulls by itself and says clearly when it cannot; only buildah alone gets a base of our own.
    if not embedded:
        return PUBLISHED
    for present in (own_name(), PUBLISHED):
        if builder.has(present):
            return present
    return PUBLISHED if _registry_answers() else own_name()


def ensure_own(builder: Builder, host: Host, scratch: Path) -> None:
    """Make the base from the Debian mirror, if it is not there yet."""
    if builder.has(own_name()):
        return
    say("no image registry answers: the base image is made from the Debian mirror")
    packages.install(packages.BASE)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        system = Path(folder) / "system"
        # Without a mirror debootstrap takes Debian's default one.
        mirror = [] if host.mirror is None else [host.mirror]
        work("bootstrap Debian", [*_DEBOOTSTRAP, system, *mirror])
        _finish(system)
        # --numeric-owner: the names belong to the new system, not to this one.
        ask(["tar", "-C", system, "--numeric-owner", "-cf", Path(folder) / "rootfs.tar", "."])
        (Path(folder) / "Dockerfile").write_text(_DOCKERFILE)
        builder.build(Recipe("base", f"{folder}/Dockerfile", own_name(), context=folder))


def _finish(system: Path) -> None:
    for name in _EMPTIED:
        for entry in (system / name).iterdir():
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    (system / "etc/apt/sources.list").write_text(_SOURCES)
    # debootstrap copies the resolver and the name of the machine it runs on.
    for name in ("etc/resolv.conf", "etc/hostname"):
        (system / name).unlink(missing_ok=True)


def _registry_answers() -> bool:
    # Asking for credentials is an answer, too.
    try:
        with urllib.request.urlopen(_PROBE, timeout=_PROBE_TIMEOUT_S, context=ssl.create_default_context()):
            return True
    except urllib.error.HTTPError as error:
        return error.code == HTTPStatus.UNAUTHORIZED
    except OSError:
        return False
