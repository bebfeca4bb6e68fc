"""Where the router listens and where it keeps its files: everything that is not in the routing table."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """The fixed surroundings of one HAProxy process."""

    directory: Path
    """Holds configuration, maps and sockets; written by the agent alone."""
    clients: str = ":8080"
    """Address of the plain HTTP listener."""
    tls_clients: str = ":8443"
    """Address of the TLS listener, opened when there is a certificate."""
    metrics: str = ":9101"
    """Address of HAProxy's own Prometheus metrics."""
    threads: int = 2
    max_connections: int = 4096
    certificate: Path | None = None
    """Certificate and key in one file whose name is its digest: a new certificate is a new configuration."""

    @property
    def configuration(self) -> Path:
        """The file that HAProxy reads."""
        return self.directory / "haproxy.cfg"

    @property
    def runtime_socket(self) -> Path:
        """Where the newest HAProxy process takes commands."""
        return self.directory / "runtime.sock"

    @property
    def master_socket(self) -> Path:
        """Where HAProxy's master process takes commands."""
        return self.directory / "master.sock"

    @property
    def last_good(self) -> Path:
        """What was in force last, so that a restarted router can serve while the API server is away."""
        return self.directory / "last-good.json"

    def map_file(self, name: str) -> Path:
        """Return the file of a map, which is also its name on the runtime socket."""
        return self.directory / f"{name}.map"
