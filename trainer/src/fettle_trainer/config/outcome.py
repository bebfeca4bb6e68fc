"""The outcome of a run: what the trainer's last words to the operator are, in at most 4 KiB of JSON."""

from typing import Annotated, Literal

from pydantic import Field

from fettle_trainer.config.base import ContractModel, Digest, SettingValues
from fettle_trainer.config.evaluation_report import GateResult

MAX_OUTCOME_BYTES = 4096
"""What Kubernetes keeps of a termination message."""

ReportName = Literal[
    "dataset", "receipt", "evaluation", "samples", "metrics", "results", "lossCurve", "resolved"
]
Steps = Annotated[int, Field(ge=0)]


class OutcomeError(ContractModel):
    """Why the run did not succeed, in the shape that OpenAI's fine-tuning jobs have made familiar."""

    code: Annotated[str, Field(pattern=r"^[A-Z][A-Za-z0-9]*$", max_length=63)]
    message: Annotated[str, Field(max_length=2048)]
    """What is wrong, where, and what to do."""
    param: Annotated[str, Field(max_length=256)] = ""
    """The field of the run configuration, or the file, that it is about."""


class ReleasedAdapter(ContractModel):
    """The adapter that came out."""

    name: Annotated[str, Field(max_length=63)]
    digest: Digest
    path: Annotated[str, Field(max_length=512)]
    """Below the output directory."""


class Outcome(ContractModel):
    """What happened, what came out, and what the next attempt should know."""

    outcome: Literal["succeeded", "failed", "gateMissed", "stopped", "outOfMemory"]
    error: OutcomeError | None = None
    adapter: ReleasedAdapter | None = None
    metrics: Annotated[dict[Annotated[str, Field(max_length=63)], float], Field(max_length=32)] = Field(
        default_factory=dict
    )
    gates: Annotated[tuple[GateResult, ...], Field(max_length=16)] = ()
    """Every gate with what was measured, whether it was passed or missed."""
    resolved: SettingValues = Field(default_factory=dict)
    """What was chosen for each setting that was left open; the first to go where there is no room."""
    step: Steps = 0
    total_steps: Steps = 0
    checkpoint_step: Steps | None = None
    """The newest complete checkpoint, from which the next attempt goes on."""
    save_seconds: Annotated[float, Field(ge=0)] | None = None
    """How long the last checkpoint took: what a graceful end has to be given at least."""
    micro_batch_size: Annotated[int, Field(ge=1)] | None = None
    """The one in use; after an end out of memory the next attempt takes half of it."""
    reports: dict[ReportName, Annotated[str, Field(max_length=256)]] = Field(default_factory=dict)
    """Longer reports, as paths below the output directory."""
