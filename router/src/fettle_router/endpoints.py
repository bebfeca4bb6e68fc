"""The pods behind a pool's Service, read from its EndpointSlices (pure)."""

import ipaddress
from collections.abc import Iterable
from typing import Any, Final

from fettle_router.slots import Endpoint
from fettle_router.table import Pool

__all__ = ["SERVICE_LABEL", "endpoints"]

SERVICE_LABEL: Final = "kubernetes.io/service-name"


def endpoints(pool: Pool, slices: Iterable[dict[str, Any]]) -> list[Endpoint]:
    """Return the pods of a pool that take requests now."""
    found = {
        Endpoint(ipaddress.ip_address(address).compressed, _port(pool, piece))
        for piece in slices
        if _belongs_to(pool, piece)
        for endpoint in piece.get("endpoints") or ()
        if _takes_requests(endpoint)
        for address in endpoint["addresses"][:1]
    }
    return sorted(found)


def _belongs_to(pool: Pool, piece: dict[str, Any]) -> bool:
    labels = piece["metadata"].get("labels") or {}
    return labels.get(SERVICE_LABEL) == pool.service and piece["addressType"] in {"IPv4", "IPv6"}


def _takes_requests(endpoint: dict[str, Any]) -> bool:
    """Tell whether a pod is ready; a condition that is absent counts as ready, as the API says."""
    conditions = endpoint.get("conditions") or {}
    return conditions.get("ready") is not False and not conditions.get("terminating")


def _port(pool: Pool, piece: dict[str, Any]) -> int:
    """Return the pods' own port: the one called http, else the only one, else what the table says."""
    ports = {port.get("name") or "": port["port"] for port in piece.get("ports") or () if port.get("port")}
    if "http" in ports:
        return int(ports["http"])
    return int(next(iter(ports.values()))) if len(ports) == 1 else pool.port
