"""What the operator measures about itself, for Prometheus.

Names and labels are few and bounded: a kind, a verb, a status code. Only the series of FineTuneJobs carry an object's
name, and they go with the object.
"""

from collections.abc import Collection, Mapping
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

__all__ = ["JobSeries", "Metrics", "serve"]

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
        self.jobs = JobSeries(self.registry)
        self.last_resync = Gauge(
            "fettle_last_resync_timestamp_seconds",
            "When all objects were last listed and compared.",
            registry=self.registry,
        )


class JobSeries:
    """The series of FineTuneJobs, one set for each. `namespace` is what Prometheus calls the operator's own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._phase = Gauge(
            "fettle_finetunejob_phase",
            "1 for the phase that the job is in.",
            ["target_namespace", "name", "phase"],
            registry=registry,
        )
        self._numbers = {
            path: Gauge(f"fettle_finetunejob_{name}", text, ["target_namespace", "name"], registry=registry)
            for path, name, text in (
                (("progress", "step"), "step", "Optimizer steps done."),
                (("progress", "totalSteps"), "steps", "Optimizer steps in all."),
                (("progress", "loss"), "loss", "Training loss of the last logged step."),
                (("progress", "evalLoss"), "eval_loss", "Loss of the last evaluation."),
                (
                    ("progress", "tokensPerSecond"),
                    "tokens_per_second",
                    "Tokens of real rows, over all processes.",
                ),
                (("attemptCount",), "attempts", "Attempts so far."),
                (("gpuSeconds",), "gpu_seconds", "GPU seconds used, over all ended attempts."),
                (("lostSeconds",), "lost_seconds", "Seconds of training that had to be done again."),
            )
        }
        self._phases: dict[tuple[str, str], str] = {}

    def put(self, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Show what a job's status says."""
        key, phase = (namespace, name), status.get("phase", "")
        if (before := self._phases.get(key)) is not None and before != phase:
            self._phase.remove(*key, before)
        self._phases[key] = phase
        self._phase.labels(*key, phase).set(1)
        for path, gauge in self._numbers.items():
            value: Any = status
            for part in path:
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is not None:
                gauge.labels(*key).set(value)

    def keep_only(self, present: Collection[tuple[str, str]]) -> None:
        """Forget the jobs that are gone."""
        for key in self._phases.keys() - set(present):
            self._phase.remove(*key, self._phases.pop(key))
            for gauge in self._numbers.values():
                gauge.remove(*key)


def serve(metrics: Metrics, port: int, address: str = "0.0.0.0") -> WSGIServer:  # noqa: S104 - scraped from other pods
    """Serve the metrics from a thread of its own, so that a busy loop can still be observed."""
    server, _ = start_http_server(port, addr=address, registry=metrics.registry)
    return server
