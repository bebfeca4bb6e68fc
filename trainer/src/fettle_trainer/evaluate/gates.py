"""Gates: bounds that the result must keep before anybody may serve it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle_trainer.config.evaluation_report import GateResult
from fettle_trainer.evaluate.metrics import LOWER_IS_BETTER

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fettle_trainer.config.run import Gate, MetricName


def judge(
    gates: Sequence[Gate], tuned: Mapping[MetricName, float], base: Mapping[MetricName, float] | None
) -> tuple[GateResult, ...]:
    """Return the verdict on every gate; the metrics that they name have been measured."""
    return tuple(_judge(gate, tuned[gate.metric], (base or {}).get(gate.metric)) for gate in gates)


def missed(results: Sequence[GateResult]) -> str:
    """Return a sentence on the gates that were missed; empty when none was."""
    misses = [_miss(result) for result in results if not result.passed]
    return f"The result misses {'; '.join(misses)}." if misses else ""


def _judge(gate: Gate, value: float, base: float | None) -> GateResult:
    if gate.min is not None:
        return GateResult(
            metric=gate.metric, bound="min", threshold=gate.min, value=value, passed=value >= gate.min
        )
    if gate.max is not None:
        return GateResult(
            metric=gate.metric, bound="max", threshold=gate.max, value=value, passed=value <= gate.max
        )
    assert gate.min_gain_over_base is not None, "a gate has a bound"  # noqa: S101 - RunConfig holds to it
    assert base is not None, "the base was measured"  # noqa: S101 - as above
    gain = base - value if gate.metric in LOWER_IS_BETTER else value - base
    return GateResult(
        metric=gate.metric,
        bound="minGainOverBase",
        threshold=gate.min_gain_over_base,
        value=gain,
        passed=gain >= gate.min_gain_over_base,
    )


def _miss(result: GateResult) -> str:
    words = {"min": "at least", "max": "at most", "minGainOverBase": "better than the base by at least"}
    return f"{result.metric} {words[result.bound]} {result.threshold:g} (it is {result.value:.4g})"
