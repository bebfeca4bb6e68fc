"""What the operator measures about itself, for Prometheus.

Names and labels are few and bounded: a kind, a verb, a status code; never the name of an object.
"""

from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

__all__ = ["Metrics", "serve"]

_PASS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """All series of one operator process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.reconcile_seconds = Histogram(
            "fettle_reconcile_seconds",
            "Duration of a pass over one object.",
            ["kind", "outcome"],
            buckets=_PASS_BUCKETS,
            registry=self.registry,
        )
        self.queue_depth = Gauge(
            "fettle_queue_depth", "Objects that wait for a pass to begin.", registry=self.registry
        )
        self.objects = Gauge(
            "fettle_objects", "Objects that the operator looks after.", ["kind"], registry=self.registry
        )
        self.stalled_objects = Gauge(
            "fettle_stalled_objects",
            "Objects with news that no successful pass has seen for over 60 seconds.",
            ["kind"],
            registry=self.registry,
        )
        self.api_requests = Counter(
            "fettle_api_requests_total",
            "Requests to the API server; code 0 means that no answer came.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self.last_resync = Gauge(
            "fettle_last_resync_timestamp_seconds",
            "When all objects were last listed and compared.",
            registry=self.registry,
        )


def serve(metrics: Metrics, port: int, address: str = "0.0.0.0") -> WSGIServer:  # noqa: S104 - scraped from other pods
    """Serve the metrics from a thread of its own, so that a busy loop can still be observed."""
    server, _ = start_http_server(port, addr=address, registry=metrics.registry)
    return server
