"""What a build needs of this machine's own set-up: package mirrors, proxies and certificates.

It reaches the build as secrets, which exist while one instruction runs and are part of no layer. With nothing special
on the machine there are no secrets, and the Dockerfiles work with the public defaults.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from images.programs import ask, succeeds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SUITE = "bookworm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SUITES = (SUITE, f"{SUITE}-updates", f"{SUITE}-security")
_CA_IN_BUILD = "/run/secrets/ca"
_SOURCES_IN_BUILD = "/run/secrets/apt-sources"
_SYSTEM_CA = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Repository:
    """One package repository that this machine's apt uses for Debian."""

    uri: str
    suite: str


@dataclass(frozen=True)
class Host:
    """What was found."""

    ca: Path | None
    index: str | None
    repositories: tuple[Repository, ...]
    apt_options: tuple[str, ...]
    """Lines of apt's own configuration language."""

    @property
    def mirror(self) -> str | None:
        """The Debian mirror that a base system is fetched from; None where this machine knows none."""
        return next((found.uri for found in self.repositories if found.suite == SUITE), None)


def look(environ: Mapping[str, str] = os.environ) -> Host:
    """Ask this machine's pip and apt how they are set up."""
    ca = Path(environ.get("SSL_CERT_FILE") or _SYSTEM_CA)
    pip = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    index = environ.get("PIP_INDEX_URL") or (ask(pip) if succeeds(pip) else None)
    repositories: tuple[Repository, ...] = ()
    options: tuple[str, ...] = ()
    if shutil.which("apt-get") is not None and _is_debian(Path("/etc/os-release")):
        targets = [
            "apt-get",
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE) $(COMPONENT)",
            "Created-By: Packages",
        ]
        repositories = debian_repositories(ask(targets).splitlines())
        options = proxy_options(ask(["apt-config", "dump"]).splitlines())
    return Host(ca if ca.exists() else None, index, repositories, options)


def debian_repositories(lines: Iterable[str]) -> tuple[Repository, ...]:
    """Return Debian's own repositories among `URI SUITE COMPONENT` lines; other vendors' are left out."""
    found: dict[Repository, None] = {}
    for line in lines:
        uri, suite, component = line.split()
        if suite in _SUITES and component == "main":
            found[Repository(uri.rstrip("/"), suite)] = None
    return tuple(found)


def proxy_options(lines: Iterable[str]) -> tuple[str, ...]:
    """Return those lines of apt's configuration that say through whom and how strictly to fetch."""
    kept = re.compile(r'Acquire::(https?::Proxy(::[\w.-]+)?|Check-Valid-Until|Check-Date) "[^"]+";')
    return tuple(line for line in lines if kept.fullmatch(line))


def secrets(host: Host) -> dict[str, str | Path]:
    """Return the secrets of a build: a text that becomes a file, or a file that exists."""
    result: dict[str, str | Path] = {}
    pip = []
    uv = []
    apt = list(host.apt_options)
    if host.ca is not None:
        result["ca"] = host.ca
        pip.append(f"cert = {_CA_IN_BUILD}")
        uv.append("system-certs = true")
        apt.append(f'Acquire::https::CaInfo "{_CA_IN_BUILD}";')
    if host.index is not None:
        pip.append(f"index-url = {host.index}")
        uv.append(f'[[index]]\nurl = "{host.index}"\ndefault = true')
    if host.repositories:
        lines = [f"deb [signed-by={KEYRING}] {found.uri} {found.suite} main" for found in host.repositories]
        result["apt-sources"] = "\n".join([*lines, ""])
        apt += [f'Dir::Etc::SourceList "{_SOURCES_IN_BUILD}";', 'Dir::Etc::SourceParts "/dev/null";']
    if pip:
        result["pip"] = "\n".join(["[global]", *pip, ""])
        result["uv"] = "\n".join([*uv, ""])
    if apt:
        result["apt-conf"] = "\n".join([*apt, ""])
    return result


def write_secrets(wanted: Mapping[str, str | Path], folder: Path) -> dict[str, Path]:
    """Write the texts among the secrets into a folder, for the owner's eyes only, and return all as files."""
    files = {}
    for name, content in wanted.items():
        if isinstance(content, Path):
            files[name] = content
        else:
            files[name] = folder / name
            descriptor = os.open(files[name], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as stream:
                stream.write(content)
    return files


def _is_debian(os_release: Path) -> bool:
    lines = os_release.read_text().splitlines() if os_release.exists() else []
    return "ID=debian" in lines and f"VERSION_CODENAME={SUITE}" in lines
