"""What an engine that is not vLLM has to tell, under vLLM's names too, for everything that scrapes vLLM."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from fettle_server.metrics import FINISHES, SECONDS, TOKEN_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

    from fettle_server.engine.types import Load
    from fettle_server.layer.facts import RequestFacts
    from fettle_server.layer.surroundings import EngineNames

__all__ = ["EngineCollector", "VllmNames"]


class VllmNames:
    """The same events under vLLM's names, over all revisions; for engines that are not vLLM."""

    def __init__(self, registry: CollectorRegistry, model_name: str) -> None:
        self._model_name = model_name
        name = ("model_name",)
        self._success = Counter(
            "vllm:request_success", "Finished answers.", (*name, "finished_reason"), registry=registry
        )
        self._tokens_in = Counter("vllm:prompt_tokens", "Tokens of prompts.", name, registry=registry)
        self._tokens_out = Counter("vllm:generation_tokens", "Tokens of answers.", name, registry=registry)
        self._first_token = Histogram(
            "vllm:time_to_first_token_seconds",
            "From request to its first token.",
            name,
            buckets=SECONDS,
            registry=registry,
        )
        self._between = Histogram(
            "vllm:inter_token_latency_seconds",
            "From one token to the next.",
            name,
            buckets=TOKEN_SECONDS,
            registry=registry,
        )
        self._duration = Histogram(
            "vllm:e2e_request_latency_seconds",
            "From request to the end of its answer.",
            name,
            buckets=SECONDS,
            registry=registry,
        )

    def ended(self, facts: RequestFacts, *, began_at: float) -> None:
        """Count what became of a request that users sent."""
        self._tokens_in.labels(self._model_name).inc(facts.tokens_in)
        self._tokens_out.labels(self._model_name).inc(facts.tokens_out)
        if facts.first_token_at is None:
            return
        self._first_token.labels(self._model_name).observe(facts.first_token_at - began_at)
        self._duration.labels(self._model_name).observe(facts.clock() - began_at)
        for gap in facts.gaps:
            self._between.labels(self._model_name).observe(gap)
        for choice in facts.choices.values():
            if choice.finish in FINISHES:
                self._success.labels(self._model_name, choice.finish).inc()


class EngineCollector(Collector):
    """How busy the engine is, read when it is asked for."""

    def __init__(self, load: Callable[[], Load], names: EngineNames) -> None:
        self._load = load
        self._names = names

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges."""
        load = self._load()
        for name, text, by_revision in (
            (
                "fettle_server_running",
                "Requests that the engine is generating for.",
                load.running_by_revision,
            ),
            ("fettle_server_queued", "Requests that wait for the engine.", load.waiting_by_revision),
        ):
            family = GaugeMetricFamily(name, text, labels=("revision",))
            for revision, count in by_revision.items():
                family.add_metric([revision], count)
            yield family
        yield from self._under_vllms_names(load)

    def _under_vllms_names(self, load: Load) -> Iterator[Metric]:
        for name, text, value in (
            ("vllm:num_requests_running", "Requests that the engine is generating for.", load.running),
            ("vllm:num_requests_waiting", "Requests that wait for the engine.", load.waiting),
            ("vllm:kv_cache_usage_perc", "Share of the cache that is in use, 0 to 1.", load.cache_share),
        ):
            family = GaugeMetricFamily(name, text, labels=("model_name",))
            family.add_metric([self._names.model_name], value)
            yield family
        lora = GaugeMetricFamily(
            "vllm:lora_requests_info",
            "Adapters of running and waiting requests; the value is the time.",
            labels=("max_lora", "running_lora_adapters", "waiting_lora_adapters"),
        )
        running, waiting = (
            ",".join(
                sorted(name for name, count in counts.items() if count and name != self._names.base_revision)
            )
            for counts in (load.running_by_revision, load.waiting_by_revision)
        )
        lora.add_metric([str(self._names.max_adapters), running, waiting], time.time())
        yield lora
