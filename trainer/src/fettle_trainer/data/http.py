"""Fetching one file over HTTP from an address that a tenant wrote: nothing inside the cluster can be reached by it.

A name is resolved once, every address it has must be public, and the connection goes to exactly the address that was
checked. Each redirect is checked anew. Size, time and digest are bounded by the configuration.
"""

from __future__ import annotations

import hashlib
import http.client
import ipaddress
import socket
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urljoin, urlsplit

from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.problems import DataFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fettle_trainer.config.dataset import HttpFile

NETWORKS_VARIABLE: Final = "FETTLE_DATA_NETWORKS"
"""Inner networks that data may be fetched from, as in `10.1.0.0/16 fd00:1::/32`; set in a profile, not by tenants."""

_MAX_REDIRECTS: Final = 5
_CHUNK_BYTES: Final = 2**18
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_PORTS: Final = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Limits:
    """What the administrator allows, whatever the tenant writes."""

    allowed: Callable[[Address], bool]
    idle_seconds: float = 30
    """Longest silence of the server."""
    total_seconds: float = 3600


def limits_from(environment: Mapping[str, str]) -> Limits:
    """Return the limits of this machine: public addresses, and the networks that its administrator added."""
    networks = [ipaddress.ip_network(text) for text in environment.get(NETWORKS_VARIABLE, "").split()]
    return Limits(
        allowed=lambda address: is_public(address) or any(address in network for network in networks)
    )


def is_public(address: Address) -> bool:
    """Say whether an address lies outside of every private, local and special network."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return is_public(address.ipv4_mapped)
        # These carry an IPv4 address that a gateway would unwrap.
        if address in _NAT64 or address.sixtofour is not None or address.teredo is not None:
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


def fetch(source: HttpFile, target: Path, limits: Limits) -> None:
    """Write the file behind the URL to the target, or raise DataFileError."""
    deadline = time.monotonic() + limits.total_seconds
    url = source.url
    try:
        for _ in range(_MAX_REDIRECTS + 1):
            following = _fetch_once(url, source, target, limits, deadline)
            if following is None:
                return
            url = following
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DataFileError(
            FindingCode.SOURCE_UNREACHABLE, f"{source.url} could not be fetched: {reason}.", name=source.url
        ) from error
    message = f"{source.url} redirects more than {_MAX_REDIRECTS} times."
    raise DataFileError(FindingCode.SOURCE_UNREACHABLE, message, name=source.url)


def _fetch_once(url: str, source: HttpFile, target: Path, limits: Limits, deadline: float) -> str | None:
    """Fetch, or return the URL that the server names instead."""
    connection = _connect(_parsed(url), url, limits)
    try:
        connection.request(
            "GET", _resource(url), headers={"User-Agent": "fettle-trainer", "Accept-Encoding": "identity"}
        )
        response = connection.getresponse()
        if response.status in _REDIRECTS:
            return urljoin(url, response.headers.get("Location", ""))
        if response.status != http.client.OK:
            message = f"{url} answered {response.status} {response.reason}."
            raise DataFileError(FindingCode.SOURCE_UNREACHABLE, message, name=url)
        _save(response, source, target, deadline)
    finally:
        connection.close()
    return None


def _save(response: http.client.HTTPResponse, source: HttpFile, target: Path, deadline: float) -> None:
    too_large = DataFileError(
        FindingCode.TOO_LARGE,
        f"{source.url} is larger than {source.max_bytes} bytes (maxBytes).",
        name=source.url,
    )
    if response.length is not None and response.length > source.max_bytes:
        raise too_large
    digest = hashlib.sha256()
    received = 0
    with target.open("wb") as file:
        # read1: what is there, so that a slow drip meets the deadline.
        while chunk := response.read1(_CHUNK_BYTES):
            received += len(chunk)
            if received > source.max_bytes:
                raise too_large
            if time.monotonic() > deadline:
                raise TimeoutError(110, "it took too long")
            digest.update(chunk)
            file.write(chunk)
    if response.length:
        raise http.client.IncompleteRead(b"", response.length)
    if digest.hexdigest() != source.sha256:
        message = (
            f"{source.url} has the SHA-256 {digest.hexdigest()}, not the one given. Is it another version?"
        )
        raise DataFileError(FindingCode.DIGEST_MISMATCH, message, name=source.url)


def _parsed(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _forbidden(url, f"it is no valid address ({error})") from error
    # A backslash or a control character is read differently by different parsers.
    if any(character <= " " or character in "\\\x7f" for character in url) or not url.isascii():
        raise _forbidden(url, "it holds characters that no address has; percent-encode them")
    if parts.scheme not in _PORTS or not parts.hostname or port == 0:
        raise _forbidden(url, "it is no http or https address")
    if parts.username is not None or parts.password is not None:
        raise _forbidden(url, "it holds a user name; credentials do not belong in an address")
    return parts


def _connect(parts: SplitResult, url: str, limits: Limits) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    port = parts.port or _PORTS[parts.scheme]
    plain = _open_socket(_checked_addresses(host, port, url, limits), port, limits)
    connection = http.client.HTTPConnection(host, port, timeout=limits.idle_seconds)
    if parts.scheme == "https":
        connection = http.client.HTTPSConnection(host, port, timeout=limits.idle_seconds)
        plain = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    connection.sock = plain
    return connection


def _checked_addresses(host: str, port: int, url: str, limits: Limits) -> list[Address]:
    """Resolve once; a name with a single inner address is refused whole."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = [ipaddress.ip_address(str(answer[4][0]).partition("%")[0]) for answer in answers]
    if not all(map(limits.allowed, addresses)):
        raise _forbidden(
            url, "it leads to an address inside the network, which datasets may not be fetched from"
        )
    return addresses


def _open_socket(addresses: list[Address], port: int, limits: Limits) -> socket.socket:
    """Connect to the first address that answers."""
    problem: OSError = OSError("the name has no address")
    for address in addresses:
        try:
            return socket.create_connection((str(address), port), timeout=limits.idle_seconds)
        except OSError as error:
            problem = error
    raise problem


def _resource(url: str) -> str:
    parts = urlsplit(url)
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _forbidden(url: str, reason: str) -> DataFileError:
    return DataFileError(FindingCode.SOURCE_FORBIDDEN, f"{url} is not fetched: {reason}.", name=url)
