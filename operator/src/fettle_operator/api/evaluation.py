"""How a FineTuneJob judges its result before it becomes an Adapter."""

from typing import Annotated

from pydantic import Field

from fettle_operator.api.base import KubeModel
from fettle_operator.api.markers import ListSet, Rule, exactly_one_of
from fettle_operator.api.scalars import MetricName

__all__ = ["Evaluation", "Gate"]

Threshold = Annotated[float, Field(ge=-1_000_000, le=1_000_000)]


class Gate(KubeModel):
    """A bound that the result must keep, else the job fails and no Adapter is made."""

    rules = (exactly_one_of("min", "max", "minGainOverBase"),)

    metric: MetricName = Field(description="The metric; it must be listed in metrics.")
    min: Threshold | None = Field(default=None, description="The least value that passes.")
    max: Threshold | None = Field(default=None, description="The greatest value that passes.")
    min_gain_over_base: Threshold | None = Field(
        default=None,
        description="How much better than the base model the result must be; for loss and perplexity better is less.",
    )


class Evaluation(KubeModel):
    """What is measured on the validation rows after training."""

    rules = (
        Rule(
            expression="!has(self.gates) || (has(self.metrics) && self.gates.all(gate, gate.metric in self.metrics))",
            message="gates may only name metrics that are listed in metrics",
            holds=lambda self: (
                self.gates is None or {gate.metric for gate in self.gates} <= set(self.metrics or ())
            ),
            field="gates",
        ),
        Rule(
            expression="self.compareToBase || !has(self.gates) || !self.gates.exists(gate, has(gate.minGainOverBase))",
            message="a gate with minGainOverBase needs compareToBase",
            holds=lambda self: (
                self.compare_to_base or all(gate.min_gain_over_base is None for gate in self.gates or ())
            ),
            field="gates",
        ),
    )

    metrics: Annotated[list[MetricName], Field(min_length=1, max_length=9), ListSet()] | None = Field(
        default=None, description="What is measured. Left out: what fits the data's format."
    )
    samples: Annotated[int, Field(ge=0, le=10_000)] | None = Field(
        default=None, description="From how many validation rows answers are generated."
    )
    compare_to_base: bool = Field(default=True, description="Measure the base model too, on the same rows.")
    gates: Annotated[list[Gate], Field(min_length=1, max_length=16)] | None = Field(
        default=None, description="Bounds that the result must keep."
    )
