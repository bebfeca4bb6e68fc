"""The document of `GET /progress`: how far a run is, for the operator and for people."""

from typing import Annotated, Literal

from pydantic import AwareDatetime, Field

from fettle_trainer.config.base import ContractModel, SettingValues

Count = Annotated[int, Field(ge=0)]
Rate = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]

Phase = Literal["preparing", "training", "evaluating", "exporting", "done"]
"""What the process is busy with. The rates are those of training, whatever the phase."""


class ProgressReport(ContractModel):
    """What is known now; a value that is not known yet is left out."""

    phase: Phase = "preparing"
    step: Count = 0
    """Optimizer steps done, those before a resume included."""
    first_step: Count | None = None
    """The step that this attempt went on from."""
    total_steps: Count | None = None
    epoch: Annotated[float, Field(ge=0)] | None = None
    loss: float | None = None
    eval_loss: float | None = None
    token_accuracy: Share | None = None
    """Share of the trained tokens that the model would have said itself, at the last logged step."""
    eval_token_accuracy: Share | None = None
    learning_rate: Rate | None = None
    grad_norm: Rate | None = None
    tokens_per_second: Rate | None = None
    """Tokens of real rows, over all processes, without padding; evaluation and saving do not count."""
    padding_share: Share | None = None
    data_wait_share: Share | None = None
    """Part of the training time that was spent on waiting for data."""
    mfu: Rate | None = None
    """Model FLOP/s over the hardware's peak, as a share; only on accelerators whose peak is known."""
    peak_memory_bytes: Count | None = None
    """Of the accelerator; of this process where there is none."""
    remaining_seconds: Count | None = None
    """Of training alone, at the pace of the last steps."""
    eta: Annotated[str, Field(max_length=16)] | None = None
    """The same for people, such as 1h12m."""
    summary: Annotated[str, Field(max_length=32)] | None = None
    """Progress for people, such as 120/500 (24%)."""
    resolved: SettingValues = Field(default_factory=dict)
    """What was chosen for each setting that was left open."""
    updated_at: AwareDatetime | None = None
