"""FineTuneJob: one training run, from data to a verified Adapter."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from fettle_operator.api.base import KubeModel, Resource, ResourceName, StatusModel, Timestamp, same
from fettle_operator.api.commands import HandledCommand
from fettle_operator.api.dataset import Dataset
from fettle_operator.api.evaluation import Evaluation
from fettle_operator.api.markers import Column, ListMap, ResourceInfo, Rule, TransitionRule
from fettle_operator.api.output import Output, Tracking
from fettle_operator.api.pods import NODE_LABEL_KEYS, NodeSelector, ProfileName, Resources, Tolerations
from fettle_operator.api.references import ModelSource
from fettle_operator.api.scalars import Count, Digest, Label, MetricName, ObjectName, Seconds, ShortText
from fettle_operator.api.training import Distributed, Lora, Method, Training

__all__ = [
    "GROUP",
    "KIND",
    "PLURAL",
    "VERSION",
    "Attempt",
    "DatasetFacts",
    "Estimate",
    "EvaluationFacts",
    "FineTuneJob",
    "FineTuneJobPhase",
    "FineTuneJobSpec",
    "FineTuneJobStatus",
    "GateResult",
    "MadeAdapter",
    "Progress",
    "Scheduling",
]

INFO = ResourceInfo(
    kind="FineTuneJob",
    plural="finetunejobs",
    singular="finetunejob",
    short_names=("ftj",),
    columns=(
        Column("Phase", ".status.phase"),
        Column("Progress", ".status.progress.summary"),
        Column("Loss", ".status.progress.loss", type="number"),
        Column("ETA", ".status.progress.eta"),
        Column("Adapter", ".status.adapter.name"),
        Column("Age", ".metadata.creationTimestamp", type="date"),
        Column("Method", ".spec.method", wide=True),
        Column("Attempts", ".status.attemptCount", type="integer", wide=True),
        Column("GPU·h", ".status.gpuHours", wide=True),
        Column("Reason", '.status.conditions[?(@.type=="Ready")].reason', wide=True),
    ),
)
GROUP, VERSION, PLURAL, KIND = INFO.group, INFO.version, INFO.plural, INFO.kind

FineTuneJobPhase = Literal[
    "Pending", "Validating", "Queued", "Running", "Evaluating", "Succeeded", "Failed", "Suspended"
]
Metrics = Annotated[dict[str, float], Field(max_length=32)]


class Scheduling(KubeModel):
    """When and where the job runs, and how long it may try."""

    rules = (NODE_LABEL_KEYS,)

    queue_name: Label | None = Field(
        default=None, description="Name of the Kueue LocalQueue that admits the job."
    )
    priority_class_name: ObjectName | None = Field(default=None, description="Priority class of the pods.")
    node_selector: NodeSelector | None = Field(
        default=None, description="Labels that a node must carry, beside those of the profile."
    )
    tolerations: Tolerations | None = Field(
        default=None, description="Taints that the pods may stand, beside those of the profile."
    )
    suspend: bool = Field(
        default=False,
        description="Save, free the hardware and wait; false goes on. May be changed at any time.",
    )
    deadline_seconds: Annotated[int, Field(ge=60, le=31_536_000)] | None = Field(
        default=None, description="How long the job may be active, over all attempts and without its pauses."
    )
    retries: Annotated[int, Field(ge=0, le=100)] = Field(
        default=3,
        description="How many attempts may fail for unknown reasons. Preemption and lack of memory do not count. May be changed at any time.",
    )
    ttl_seconds_after_finished: Seconds | None = Field(
        default=None,
        description="When pods and Jobs go after the end; results stay. Left out: with the FineTuneJob. May be changed at any time.",
    )


class FineTuneJobSpec(KubeModel):
    """What is wanted: which model learns what, how, where, and what must come out."""

    rules = (
        Rule(
            expression="self.method != 'full' || !has(self.lora)",
            message="lora has no meaning with method full; remove it",
            holds=lambda self: self.method != "full" or self.lora is None,
            field="lora",
        ),
        Rule(
            expression="self.method != 'qlora' || !has(self.lora) || !has(self.lora.initWeights) || "
            "!(self.lora.initWeights in ['pissa', 'olora'])",
            message="initWeights pissa and olora change the base weights, which method qlora keeps quantised",
            holds=lambda self: (
                self.method != "qlora"
                or self.lora is None
                or self.lora.init_weights not in {"pissa", "olora"}
            ),
            field="lora.initWeights",
        ),
        Rule(
            expression="self.method in ['lora', 'full'] || !has(self.distributed.zero) || "
            "!has(self.distributed.zero.stage) || self.distributed.zero.stage != 3",
            message="stage 3 needs method lora or full; qlora and dora train with stage 0, 1 or 2",
            holds=lambda self: (
                self.method in {"lora", "full"} or _zero(self) is None or _zero(self).stage != 3
            ),
            field="distributed.zero.stage",
        ),
        Rule(
            expression="!has(self.distributed.zero) || !has(self.distributed.zero.offload) || "
            "self.distributed.zero.offload == 'none' || !has(self.training.optimizer) || "
            "self.training.optimizer in ['auto', 'adamw']",
            message="offload needs training.optimizer auto or adamw",
            holds=lambda self: (
                _zero(self) is None
                or _zero(self).offload in {None, "none"}
                or self.training.optimizer in {None, "auto", "adamw"}
            ),
            field="distributed.zero.offload",
        ),
        Rule(
            expression="!has(self.training.batchSize) || self.training.batchSize % (self.distributed.nodes * "
            "self.distributed.processesPerNode * "
            "(has(self.training.microBatchSize) ? self.training.microBatchSize : 1)) == 0",
            message="batchSize must be a multiple of distributed.nodes x distributed.processesPerNode x "
            "training.microBatchSize",
            holds=lambda self: (
                self.training.batch_size is None
                or self.training.batch_size
                % (
                    self.distributed.nodes
                    * self.distributed.processes_per_node
                    * (self.training.micro_batch_size or 1)
                )
                == 0
            ),
            field="training.batchSize",
        ),
        Rule(
            expression="!has(self.dataset.validationSplit) || self.dataset.validationSplit != '0%' || "
            "!(has(self.training.earlyStopping) || has(self.training.evalEvery) || has(self.evaluation))",
            message="validationSplit 0% leaves nothing for training.earlyStopping, training.evalEvery and "
            "evaluation to look at; remove those, or hold rows back",
            holds=lambda self: (
                self.dataset.validation_split != "0%"
                or (self.training.early_stopping, self.training.eval_every, self.evaluation)
                == (None, None, None)
            ),
            field="dataset.validationSplit",
        ),
        Rule(
            expression="!has(self.dataset.format) || self.dataset.format in ['auto', 'classification'] || !("
            "(has(self.evaluation) && has(self.evaluation.metrics) && "
            "self.evaluation.metrics.exists(metric, metric in ['accuracy', 'macro-f1'])) || "
            "(has(self.training.loss) && has(self.training.loss.classWeights)))",
            message="evaluation.metrics accuracy and macro-f1, and training.loss.classWeights, need dataset.format "
            "classification",
            holds=lambda self: (
                self.dataset.format in {None, "auto", "classification"} or not _classifies(self)
            ),
            field="dataset.format",
        ),
        Rule(
            expression="self.method != 'full' || !has(self.output) || !has(self.output.exports) || "
            "!('adapter' in self.output.exports)",
            message="exports must not name adapter: method full makes none; export merged",
            holds=lambda self: (
                self.method != "full" or self.output is None or "adapter" not in (self.output.exports or ())
            ),
            field="output.exports",
        ),
    )

    model: ModelSource = Field(description="The model to start from; exactly one kind of source.")
    dataset: Dataset = Field(description="What to train on and what to hold back.")
    method: Method = Field(
        default="lora", description="lora, qlora and dora make an adapter; full changes all weights."
    )
    lora: Lora | None = Field(default=None, description="The shape of the adapter.")
    training: Training = Field(default_factory=Training, description="Hyper-parameters; left out means auto.")
    distributed: Distributed = Field(
        default_factory=Distributed, description="Over how many processes the training runs."
    )
    profile: ProfileName = Field(
        default="cpu",
        description="Name of a profile of the administrator: image, hardware and place of the pods.",
    )
    resources: Resources | None = Field(
        default=None, description="What each pod asks for and may use, over what the profile gives."
    )
    scheduling: Scheduling = Field(
        default_factory=Scheduling, description="When and where the job runs, and how long it may try."
    )
    evaluation: Evaluation | None = Field(
        default=None, description="What is measured after training. Left out: what fits the data."
    )
    output: Output | None = Field(default=None, description="What remains of the job.")
    tracking: Tracking | None = Field(default=None, description="Who is told about the run.")


def _zero(spec: FineTuneJobSpec) -> Any:
    return spec.distributed.zero


def _classifies(spec: FineTuneJobSpec) -> bool:
    metrics = spec.evaluation.metrics if spec.evaluation else None
    weights = spec.training.loss.class_weights if spec.training.loss else None
    return weights is not None or bool({"accuracy", "macro-f1"} & set(metrics or ()))


class Attempt(KubeModel):
    """One try at the training: one Job over all nodes."""

    number: Annotated[int, Field(ge=1, le=2**31)] = Field(description="Counts from 1.")
    job_name: Annotated[str, Field(max_length=63)] = Field(description="Name of the Job.")
    outcome: Literal["Running", "Succeeded", "Stopped", "OutOfMemory", "Refused", "GateMissed", "Failed"] = (
        Field(description="How it ended, or Running.")
    )
    reason: Annotated[str, Field(max_length=64)] | None = Field(
        default=None, description="Why it ended, in one CamelCase word."
    )
    message: Annotated[str, Field(max_length=512)] | None = Field(default=None, description="Why it ended.")
    exit_code: Annotated[int, Field(ge=0, le=255)] | None = Field(
        default=None, description="Exit code of the first process that ended badly."
    )
    nodes: Annotated[list[Annotated[str, Field(max_length=253)]], Field(max_length=64)] = Field(
        default_factory=list, description="The nodes it ran on."
    )
    first_step: Count | None = Field(default=None, description="The step it went on from.")
    last_step: Count | None = Field(default=None, description="The last step it reached.")
    checkpoint_step: Count | None = Field(
        default=None, description="The step of the newest complete checkpoint that it left."
    )
    save_seconds: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="How long its last checkpoint took to save."
    )
    seconds: Count | None = Field(default=None, description="How long it was active.")
    lost_seconds: Count | None = Field(
        default=None, description="How much of that the next attempt did again."
    )
    micro_batch_size: Count | None = Field(default=None, description="The micro-batch it ran with.")
    image: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="The trainer image that the profile gave it."
    )
    start_time: Timestamp | None = Field(default=None, description="When it began.")
    completion_time: Timestamp | None = Field(default=None, description="When it ended.")


class Progress(KubeModel):
    """How far the running attempt is."""

    step: Count = Field(description="Optimizer steps done.")
    total_steps: Count | None = Field(default=None, description="Optimizer steps in all.")
    epoch: Annotated[float, Field(ge=0)] | None = Field(default=None, description="Times the data was seen.")
    loss: float | None = Field(default=None, description="Training loss of the last logged step.")
    eval_loss: float | None = Field(default=None, description="Loss of the last evaluation.")
    learning_rate: float | None = Field(default=None, description="Learning rate of the last logged step.")
    tokens_per_second: Annotated[float, Field(ge=0)] | None = Field(
        default=None, description="Tokens of real rows, over all processes, without padding."
    )
    eta: Annotated[str, Field(max_length=16)] | None = Field(
        default=None, description="Time left for people, such as 1h12m."
    )
    remaining_seconds: Count | None = Field(
        default=None, description="Time left, without evaluation and saving."
    )
    summary: Annotated[str, Field(max_length=32)] | None = Field(
        default=None, description="Progress for people, such as 120/500 (24%)."
    )
    updated_at: Timestamp | None = Field(default=None, description="When the trainer said so.")


class Finding(KubeModel):
    """Something about the data that its owner should know."""

    code: Annotated[str, Field(max_length=64)] = Field(
        description="Which kind of finding, in one CamelCase word."
    )
    message: Annotated[str, Field(max_length=512)] = Field(description="What is wrong and what to do.")
    file: Annotated[str, Field(max_length=512)] | None = Field(default=None, description="The file.")
    line: Count | None = Field(default=None, description="The line, counted from 1.")
    field: Annotated[str, Field(max_length=128)] | None = Field(
        default=None, description="The column or field."
    )


class DatasetFacts(KubeModel):
    """What the check of the data found."""

    rows: Count | None = Field(default=None, description="Rows to train on.")
    validation_rows: Count | None = Field(default=None, description="Rows held back.")
    bad_rows: Count | None = Field(default=None, description="Rows that cannot be used; an exact count.")
    tokens: Count | None = Field(default=None, description="Tokens of the rows to train on.")
    trained_token_share: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="Share of the tokens that the loss counts."
    )
    dropped: Count | None = Field(default=None, description="Rows dropped because they are too long.")
    truncated: Count | None = Field(default=None, description="Rows cut because they are too long.")
    digest: Digest | None = Field(default=None, description="Digest of the data.")
    findings: Annotated[list[Finding], Field(max_length=20)] = Field(
        default_factory=list,
        description="The first findings; all of them are in the report beside the adapter.",
    )


class Estimate(KubeModel):
    """What the run was expected to need, before it began."""

    memory: Annotated[str, Field(max_length=20)] | None = Field(
        default=None, description="Memory of one process' device, such as 21Gi."
    )
    seconds: Count | None = Field(default=None, description="Duration of the training.")


class GateResult(KubeModel):
    """One gate and what was measured."""

    metric: MetricName = Field(description="The metric.")
    passed: bool = Field(description="Whether the gate was kept.")
    value: float | None = Field(default=None, description="What was measured.")
    required: ShortText | None = Field(default=None, description="What the gate asks for, such as >= 0.8.")


class EvaluationFacts(KubeModel):
    """What the evaluation measured."""

    tuned: Metrics = Field(default_factory=dict, description="The result's metrics.")
    base: Metrics = Field(default_factory=dict, description="The base model's metrics, on the same rows.")
    gates: Annotated[list[GateResult], Field(max_length=16)] = Field(
        default_factory=list, description="The gates, in the spec's order."
    )


class MadeAdapter(KubeModel):
    """The Adapter that the job made."""

    name: ResourceName = Field(description="Name of the Adapter.")
    digest: Digest | None = Field(default=None, description="Digest over its files.")
    path: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="Path of its folder below the store's root."
    )


class FineTuneJobStatus(StatusModel):
    """What is known about the run."""

    phase: FineTuneJobPhase | None = Field(
        default=None, description="The state in a word, derived from conditions."
    )
    attempts: Annotated[list[Attempt], Field(max_length=16), ListMap("number")] = Field(
        default_factory=list, description="The newest attempts. Once there is one, the spec is fixed."
    )
    attempt_count: Count | None = Field(default=None, description="How many attempts there were.")
    failed_attempts: Count | None = Field(
        default=None, description="How many of them used up one of scheduling.retries."
    )
    memory_halvings: Count | None = Field(
        default=None, description="How often the micro-batch was halved for want of memory."
    )
    active_seconds: Count | None = Field(
        default=None,
        description="How long the ended attempts were active; scheduling.deadlineSeconds bounds it.",
    )
    progress: Progress | None = Field(default=None, description="How far the running attempt is.")
    dataset: DatasetFacts | None = Field(default=None, description="What the check of the data found.")
    resolved: Annotated[dict[str, ShortText], Field(max_length=64)] = Field(
        default_factory=dict,
        description="The value chosen for each setting that was left out, by its field path.",
    )
    estimate: Estimate | None = Field(default=None, description="What the run was expected to need.")
    evaluation: EvaluationFacts | None = Field(default=None, description="What the evaluation measured.")
    adapter: MadeAdapter | None = Field(default=None, description="The Adapter that was made.")
    gpu_seconds: Count | None = Field(default=None, description="GPU seconds used, over all attempts.")
    gpu_hours: Annotated[str, Field(max_length=16)] | None = Field(
        default=None, description="The same in hours, for people."
    )
    lost_seconds: Count | None = Field(
        default=None, description="Seconds of training that had to be done again."
    )
    last_command: HandledCommand | None = Field(default=None, description="The last command that was obeyed.")
    start_time: Timestamp | None = Field(default=None, description="When the first attempt began.")
    completion_time: Timestamp | None = Field(default=None, description="When the job ended.")


_STAYS_FREE = {"scheduling": {"suspend", "retries", "ttl_seconds_after_finished"}}
"""What may change at any time; everything else is fixed by the first attempt."""


def _fixed_fields(model: type[KubeModel], path: tuple[str, ...]) -> Iterator[TransitionRule]:
    """Yield a rule for each field, so that the refusal names the field that was changed."""
    free = _STAYS_FREE.get(".".join(path), set())
    for name, info in model.model_fields.items():
        if name in free:
            continue
        if name in _STAYS_FREE and isinstance(info.annotation, type):
            yield from _fixed_fields(info.annotation, (*path, name))
        else:
            yield _fixed_field((*path, name), ".".join(("spec", *path, str(info.alias))), info.is_required())


def _fixed_field(attributes: tuple[str, ...], field: str, required: bool) -> TransitionRule:
    new, old = f"self.{field}", f"oldSelf.{field}"
    unchanged = (
        f"{new} == {old}" if required else f"has({new}) == has({old}) && (!has({new}) || {new} == {old})"
    )

    def holds(before: "FineTuneJob", after: "FineTuneJob") -> bool:
        one: Any = before.spec
        other: Any = after.spec
        for attribute in attributes:
            one, other = getattr(one, attribute), getattr(other, attribute)
        return not before.status.attempts or same(one, other)

    return TransitionRule(
        expression="!has(oldSelf.status) || !has(oldSelf.status.attempts) || oldSelf.status.attempts.size() == 0 || "
        f"({unchanged})",
        message=f"{field} is fixed once the first attempt has started; create another FineTuneJob",
        holds=holds,
        field=field,
    )


class FineTuneJob(Resource):
    """A training run: fine-tunes a model on a dataset and records the result as an Adapter."""

    info: ClassVar[ResourceInfo] = INFO
    transition_rules: ClassVar[tuple[TransitionRule, ...]] = tuple(_fixed_fields(FineTuneJobSpec, ()))

    kind: Literal["FineTuneJob"] = "FineTuneJob"
    spec: FineTuneJobSpec = Field(
        description="What is wanted. Fixed once the first attempt has started, but for scheduling.suspend, scheduling.retries and scheduling.ttlSecondsAfterFinished."
    )
    status: FineTuneJobStatus = Field(
        default_factory=FineTuneJobStatus, description="What is known. Written by the operator."
    )
