"""The metrics of one server, per revision: what a rollout compares.

Label values come from closed lists or from the revisions that the server knows; nothing that a client sent becomes one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fettle_server.feedback import Subject
from fettle_server.signals import signals

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from prometheus_client.core import Metric

    from fettle_server.feedback import Rating
    from fettle_server.layer.facts import RequestFacts

__all__ = ["FINISHES", "OTHER", "SECONDS", "TOKEN_SECONDS", "LayerMetrics"]

OTHER: Final = "other"
"""The revision of requests that named none of ours."""

_MOST_REVISIONS: Final = 1_000
"""A process that lives for years and sees more revisions than this counts the later ones as other."""

_SUBJECT: Final = ("revision", "role", "route")
FINISHES: Final = frozenset({"stop", "length", "tool_calls", "content_filter", "abort", "error"})
SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0)
TOKEN_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_TOKENS: Final = (1, 4, 16, 64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 32_768)


class LayerMetrics:
    """Everything that is counted from outside of the engine, in a registry of its own."""

    def __init__(self, revisions: Callable[[], Collection[str]]) -> None:
        self.registry = CollectorRegistry()
        self._revisions = revisions
        self._seen: set[str] = set()
        self._open: dict[int, RequestFacts] = {}
        self._requests = self._counter(
            "fettle_server_requests", "Requests by what became of them.", *_SUBJECT, "code"
        )
        self._duration = self._histogram(
            "fettle_server_request_duration_seconds", "From request to the end of its answer.", SECONDS
        )
        self._first_token = self._histogram(
            "fettle_server_time_to_first_token_seconds", "From request to its first token.", SECONDS
        )
        self._between = self._histogram(
            "fettle_server_inter_token_latency_seconds", "From one token to the next.", TOKEN_SECONDS
        )
        self._answer_tokens = self._histogram(
            "fettle_server_answer_tokens", "Tokens of a request's answers.", _TOKENS
        )
        self._tokens_in = self._counter("fettle_server_prompt_tokens", "Tokens of prompts.", *_SUBJECT)
        self._tokens_out = self._counter("fettle_server_generation_tokens", "Tokens of answers.", *_SUBJECT)
        self._answers = self._counter(
            "fettle_server_answers", "Finished answers by why they ended.", *_SUBJECT, "finish_reason"
        )
        self._signals = self._counter(
            "fettle_server_answer_signals", "Finished answers that show a signal.", *_SUBJECT, "signal"
        )
        self._feedback = self._counter("fettle_server_feedback", "Ratings of answers.", *_SUBJECT, "rating")
        self._shadow = self._counter(
            "fettle_server_shadow_requests", "Shadow copies by what became of them.", "revision", "outcome"
        )
        self.registry.register(_InFlight(self))

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, registry=self.registry)

    def _histogram(self, name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(name, text, _SUBJECT, buckets=buckets, registry=self.registry)

    def exposition(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)

    def subject(self, facts: RequestFacts) -> Subject:
        """Return the labels of a request; a revision that is not known is no label."""
        return Subject(self._label(facts.revision), facts.role, facts.route)

    def _label(self, revision: str) -> str:
        if revision in self._seen:
            return revision
        if len(self._seen) >= _MOST_REVISIONS or revision not in self._revisions():
            return OTHER
        self._seen.add(revision)
        return revision

    def began(self, facts: RequestFacts) -> None:
        """Count a request as in flight."""
        self._open[id(facts)] = facts

    def ended(self, facts: RequestFacts, *, code: int, began_at: float) -> None:
        """Count what became of a request."""
        self._open.pop(id(facts), None)
        subject = self.subject(facts)
        self._requests.labels(*subject, str(code)).inc()
        self._duration.labels(*subject).observe(facts.clock() - began_at)
        if facts.tokens_in:
            self._tokens_in.labels(*subject).inc(facts.tokens_in)
        if facts.tokens_out:
            self._tokens_out.labels(*subject).inc(facts.tokens_out)
            self._answer_tokens.labels(*subject).observe(facts.tokens_out)
        if facts.first_token_at is not None:
            self._first_token.labels(*subject).observe(facts.first_token_at - began_at)
        between = self._between.labels(*subject)
        for gap in facts.gaps:
            between.observe(gap)
        if code < 400:
            self._judge(facts, subject)

    def _judge(self, facts: RequestFacts, subject: Subject) -> None:
        for choice in facts.choices.values():
            if not choice.finish:
                continue
            finish = choice.finish if choice.finish in FINISHES else OTHER
            self._answers.labels(*subject, finish).inc()
            # An answer cut short is no whole JSON, one that calls a tool has no text: both say nothing here.
            if finish == "tool_calls":
                continue
            whole = finish == "stop" and not choice.clipped
            for signal in signals(choice.text, wants_json=facts.wants_json and whole):
                self._signals.labels(*subject, signal.value).inc()

    def rated(self, subject: Subject, rating: Rating) -> None:
        """Count a thumb."""
        self._feedback.labels(*subject, rating).inc()

    def shadowed(self, revision: str, outcome: str) -> None:
        """Count a shadow copy."""
        self._shadow.labels(self._label(revision), outcome).inc()

    def in_flight(self) -> dict[Subject, int]:
        """Return how many requests are being answered now."""
        counts: dict[Subject, int] = {}
        for facts in list(self._open.values()):
            subject = self.subject(facts)
            counts[subject] = counts.get(subject, 0) + 1
        return counts


class _InFlight(Collector):
    """Counted when it is asked for, because a request's revision is known only some time after its beginning."""

    def __init__(self, metrics: LayerMetrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(
            "fettle_server_requests_in_flight", "Requests being answered.", labels=_SUBJECT
        )
        for subject, count in self._metrics.in_flight().items():
            family.add_metric(list(subject), count)
        yield family
