"""How an InferenceDeployment goes from one revision to the next, and what makes it go back."""

from typing import Annotated, Literal

from pydantic import Field

from fettle_operator.api.base import KubeModel
from fettle_operator.api.markers import ListMap, Rule, exactly_one_of
from fettle_operator.api.scalars import Duration, Label, MetricName

__all__ = ["Analysis", "AnalysisMetric", "BlueGreen", "Canary", "CanaryStep", "Replace", "Strategy"]

Threshold = Annotated[float, Field(ge=-1_000_000_000, le=1_000_000_000)]
StepSeconds = Annotated[int, Field(ge=1, le=604_800)]

Signal = Literal[
    "error-rate",
    "time-to-first-token-p50",
    "time-to-first-token-p95",
    "inter-token-latency-p95",
    "latency-p50",
    "latency-p95",
    "tokens-per-second",
    "output-length",
    "empty-share",
    "truncated-share",
    "repetition-share",
    "refusal-share",
    "invalid-json-share",
    "thumbs-down-share",
]
"""What routers and model servers count for each revision; shares are 0 to 1, times are seconds."""


class AnalysisMetric(KubeModel):
    """One thing to watch, and the bounds it must keep."""

    rules = (
        exactly_one_of("signal", "query", "evaluation"),
        Rule(
            expression="has(self.min) || has(self.max) || has(self.maxIncrease) || has(self.maxDecrease)",
            message="set at least one of min, max, maxIncrease and maxDecrease",
            holds=lambda self: (self.min, self.max, self.max_increase, self.max_decrease) != (None,) * 4,
        ),
        Rule(
            expression="!has(self.min) || !has(self.max) || self.min <= self.max",
            message="min must not exceed max",
            holds=lambda self: self.min is None or self.max is None or self.min <= self.max,
            field="min",
        ),
    )

    name: Label = Field(description="Name of the metric in status.")
    signal: Signal | None = Field(
        default=None,
        description="A figure that routers and model servers count; needs nothing else in the cluster.",
    )
    query: Annotated[str, Field(min_length=1, max_length=2048)] | None = Field(
        default=None,
        description="PromQL for the administrator's Prometheus; {{revision}}, {{namespace}} and {{name}} are filled in.",
    )
    evaluation: MetricName | None = Field(
        default=None, description="A metric recorded in the candidate's Adapter by its training job."
    )
    min: Threshold | None = Field(default=None, description="The least value that passes.")
    max: Threshold | None = Field(default=None, description="The greatest value that passes.")
    max_increase: Threshold | None = Field(
        default=None,
        description="How much higher than the stable revision, at the same time, the value may be.",
    )
    max_decrease: Threshold | None = Field(
        default=None,
        description="How much lower than the stable revision, at the same time, the value may be.",
    )


class Analysis(KubeModel):
    """What is watched while a candidate takes traffic. Missing evidence holds the rollout, it never passes."""

    metrics: Annotated[list[AnalysisMetric], Field(min_length=1, max_length=16), ListMap("name")] = Field(
        description="What is watched; all of it must pass."
    )
    interval: Duration | None = Field(default=None, description="Time between two measurements, such as 30s.")
    failure_limit: Annotated[int, Field(ge=0, le=100)] = Field(
        default=0, description="How many failed measurements are tolerated before the rollout is rolled back."
    )
    error_limit: Annotated[int, Field(ge=0, le=100)] | None = Field(
        default=None,
        description="How many measurements in a row may not come about before the rollout pauses.",
    )
    min_samples: Annotated[int, Field(ge=1, le=1_000_000)] | None = Field(
        default=None, description="Requests to the candidate before a measurement counts."
    )


class Pause(KubeModel):
    """A stop, for a time or until a person promotes."""

    seconds: StepSeconds | None = Field(
        default=None, description="How long. Left out: until the command promote or skip."
    )


class Analyse(KubeModel):
    """A time of observation at the weight reached."""

    seconds: StepSeconds = Field(description="How long the analysis must pass.")


class CanaryStep(KubeModel):
    """One step of a canary."""

    rules = (exactly_one_of("weight", "pause", "analyse"),)

    weight: Annotated[int, Field(ge=1, le=100)] | None = Field(
        default=None, description="Percent of the main arm's traffic that the candidate takes from here on."
    )
    pause: Pause | None = Field(default=None, description="Wait for a time, or with {} for a person.")
    analyse: Analyse | None = Field(default=None, description="Watch the analysis' metrics for a time.")


def _weights(steps: list[CanaryStep]) -> list[int]:
    return [step.weight for step in steps if step.weight is not None]


class Canary(KubeModel):
    """Traffic moves to the candidate step by step; the first deployment skips the steps."""

    rules = (
        Rule(
            expression="self.steps.size() == 0 || has(self.steps[0].weight)",
            message="the first of steps must set a weight, else there is nothing to wait for or to watch",
            holds=lambda self: self.steps[0].weight is not None,
            field="steps",
        ),
        Rule(
            expression="self.steps.filter(step, has(step.weight)).all(step, "
            "self.steps.filter(other, has(other.weight) && other.weight == step.weight).size() == 1) && "
            "self.steps.filter(step, has(step.weight)).map(step, step.weight).isSorted()",
            message="the weights of steps must rise from step to step",
            holds=lambda self: _weights(self.steps) == sorted(set(_weights(self.steps))),
            field="steps",
        ),
        Rule(
            expression="has(self.analysis) || !self.steps.exists(step, has(step.analyse))",
            message="steps with analyse need analysis, which says what to watch",
            holds=lambda self: self.analysis is not None or all(step.analyse is None for step in self.steps),
            field="steps",
        ),
    )

    steps: Annotated[list[CanaryStep], Field(min_length=1, max_length=32)] = Field(
        description="The steps, in order. After the last one the candidate takes all traffic."
    )
    analysis: Analysis | None = Field(
        default=None,
        description="What is watched at analyse steps, and in the background from the first weight on.",
    )


class BlueGreen(KubeModel):
    """The candidate is made ready beside the stable revision, then takes all traffic at once."""

    rules = (
        Rule(
            expression="has(self.analyseSeconds) == has(self.analysis)",
            message="analyseSeconds and analysis belong together; set both or none",
            holds=lambda self: (self.analyse_seconds is None) == (self.analysis is None),
            field="analyseSeconds",
        ),
    )

    promotion: Literal["auto", "manual"] = Field(
        default="auto",
        description="auto: switch when the candidate is ready. manual: wait for the command promote.",
    )
    analyse_seconds: StepSeconds | None = Field(
        default=None,
        description="How long the analysis must pass after the switch, else it is switched back.",
    )
    analysis: Analysis | None = Field(default=None, description="What is watched after the switch.")
    scale_down_delay_seconds: Annotated[int, Field(ge=0, le=86_400)] = Field(
        default=30, description="How long the old revision stays ready after the switch."
    )


class Replace(KubeModel):
    """The candidate takes all traffic as soon as it is ready."""


class Strategy(KubeModel):
    """How to go from one revision to the next."""

    rules = (exactly_one_of("canary", "blueGreen", "replace"),)

    canary: Canary | None = Field(default=None, description="Step by step, watched, back by itself.")
    blue_green: BlueGreen | None = Field(default=None, description="Side by side, then all at once.")
    replace: Replace | None = Field(default=None, description="At once; an empty object.")
