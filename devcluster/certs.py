"""Keys and certificates of one cluster, made with the `openssl` program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from devcluster.shell import run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

VALID_DAYS = "3650"
_EC_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key."""

    cert: Path
    key: Path

    @classmethod
    def at(cls, folder: Path, name: str) -> KeyPair:
        """Name the two files of a certificate; neither needs to exist yet."""
        return cls(folder / f"{name}.crt", folder / f"{name}.key")


@dataclass(frozen=True)
class Identity:
    """Who a certificate speaks for: a user or node (client), an address that is served (server), or both."""

    common_name: str
    organization: str = ""
    addresses: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    client: bool = True

    @property
    def subject(self) -> str:
        """The subject as openssl writes it."""
        return (f"/O={self.organization}" if self.organization else "") + f"/CN={self.common_name}"


def authority(folder: Path, name: str, common_name: str) -> KeyPair:
    """Return a certificate authority, and make it if it does not exist."""
    pair = KeyPair.at(folder, name)
    if not pair.cert.exists():
        _make(pair, f"/CN={common_name}", authority_extensions(), ())
    return pair


def issue(ca: KeyPair, folder: Path, name: str, identity: Identity) -> KeyPair:
    """Return a certificate signed by the authority, and make it if it does not exist."""
    pair = KeyPair.at(folder, name)
    if not pair.cert.exists():
        _make(pair, identity.subject, extensions(identity), ("-CA", str(ca.cert), "-CAkey", str(ca.key)))
    return pair


def authority_extensions() -> list[str]:
    """Return what makes a certificate an authority."""
    return [
        "basicConstraints = critical,CA:TRUE",
        "keyUsage = critical,digitalSignature,keyCertSign,cRLSign",
        "subjectKeyIdentifier = hash",
    ]


def extensions(identity: Identity) -> list[str]:
    """Return what a certificate may be used for, and for which names and addresses."""
    alternatives = [f"DNS:{name}" for name in identity.names] + [
        f"IP:{address}" for address in identity.addresses
    ]
    usages = [*(["clientAuth"] if identity.client else []), *(["serverAuth"] if alternatives else [])]
    return [
        "basicConstraints = critical,CA:FALSE",
        "keyUsage = critical,digitalSignature",
        f"extendedKeyUsage = {','.join(usages)}",
        "subjectKeyIdentifier = hash",
        "authorityKeyIdentifier = keyid",
        *([f"subjectAltName = {','.join(alternatives)}"] if alternatives else []),
    ]


def _make(pair: KeyPair, subject: str, wanted: Sequence[str], signed_by: Sequence[str]) -> None:
    config = "\n".join(
        ["[req]", "distinguished_name = dn", "x509_extensions = v3", "[dn]", "[v3]", *wanted, ""]
    )
    pair.cert.parent.mkdir(parents=True, exist_ok=True)
    unfinished = pair.cert.with_suffix(".new")
    command = ["openssl", "req", "-x509", "-config", "/dev/stdin", *_EC_KEY, "-days", VALID_DAYS]
    run([*command, *signed_by, "-subj", subject, "-keyout", pair.key, "-out", unfinished], stdin=config)
    pair.key.chmod(0o600)
    # The certificate takes its name last: where it exists, the pair is complete.
    unfinished.rename(pair.cert)
