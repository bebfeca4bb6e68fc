"""`evaluation.json`: how good the result is, beside the base model it came from, and which gates it passed."""

from typing import Annotated, Literal

from pydantic import Field

from fettle_trainer.config.base import ContractModel
from fettle_trainer.config.dataset import RowFormat
from fettle_trainer.config.run import MetricName

EVALUATION_NAME = "evaluation.json"
Scores = dict[MetricName, float]
Count = Annotated[int, Field(ge=0)]


class GateResult(ContractModel):
    """One gate, whether it was passed or not."""

    metric: MetricName
    bound: Literal["min", "max", "minGainOverBase"]
    threshold: float
    value: float
    """Of the tuned model; for minGainOverBase how much better it is than the base, whichever way better lies."""
    passed: bool


class EvaluationReport(ContractModel):
    """What was measured after training."""

    schema_version: Literal[1] = 1
    row_format: RowFormat
    rows: Count
    """Held-out rows that loss, perplexity and token accuracy come from."""
    samples: Count
    """Prompts that answers were generated from; the same ones for both models."""
    tuned: Scores
    base: Scores | None = None
    gates: tuple[GateResult, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no gate was missed."""
        return all(gate.passed for gate in self.gates)
