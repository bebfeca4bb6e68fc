"""The progress report in Prometheus' text format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.core import Metric

    from fettle_trainer.config.progress import ProgressReport

# The report's field → the metric and its help. Steps are gauges: a resume can set them back.
_GAUGES: Final = {
    "step": ("fettle_training_step", "Optimizer steps done."),
    "first_step": ("fettle_training_first_step", "The optimizer step that this attempt went on from."),
    "total_steps": ("fettle_training_steps_planned", "Optimizer steps in all."),
    "epoch": ("fettle_training_epoch", "Times the data was seen."),
    "loss": ("fettle_training_loss", "Training loss at the last logged step."),
    "eval_loss": ("fettle_training_eval_loss", "Loss of the last evaluation."),
    "token_accuracy": (
        "fettle_training_token_accuracy_ratio",
        "Share of trained tokens that the model would have said itself.",
    ),
    "eval_token_accuracy": (
        "fettle_training_eval_token_accuracy_ratio",
        "The same in the last evaluation.",
    ),
    "learning_rate": ("fettle_training_learning_rate", "Learning rate at the last logged step."),
    "grad_norm": ("fettle_training_gradient_norm", "Gradient norm at the last logged step."),
    "tokens_per_second": (
        "fettle_training_tokens_per_second",
        "Real tokens per second of training, without padding, over all processes.",
    ),
    "padding_share": ("fettle_training_padding_ratio", "Share of padding in the batches."),
    "data_wait_share": (
        "fettle_training_data_wait_ratio",
        "Share of the training time spent on waiting for data.",
    ),
    "mfu": ("fettle_training_model_flops_utilization_ratio", "Model FLOP/s over the hardware's peak."),
    "peak_memory_bytes": ("fettle_training_memory_peak_bytes", "Peak memory of the training process."),
    "remaining_seconds": (
        "fettle_training_remaining_seconds",
        "Training time left, without evaluation and saving.",
    ),
}


class _Report(Collector):
    def __init__(self, read: Callable[[], ProgressReport]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        report = self._read()
        yield InfoMetricFamily(
            "fettle_training_phase", "What the process is busy with.", value={"phase": report.phase}
        )
        if report.updated_at is not None:
            yield GaugeMetricFamily(
                "fettle_training_updated_timestamp_seconds",
                "When the trainer last said so.",
                value=report.updated_at.timestamp(),
            )
        for field, (name, text) in _GAUGES.items():
            value = getattr(report, field)
            if value is not None:
                yield GaugeMetricFamily(name, text, value=value)


def exposition(read: Callable[[], ProgressReport]) -> Callable[[], bytes]:
    """Return a function that renders what `read` returns."""
    registry = CollectorRegistry()
    registry.register(_Report(read))
    return lambda: generate_latest(registry)
