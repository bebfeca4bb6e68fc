"""The run configuration: the one JSON file that the operator writes and the trainer reads.

The names and bounds are those of a FineTuneJob. A tuning value that is left out is `auto`: the trainer chooses it
and reports the value that it chose.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fettle_trainer.config.adapter import Method
from fettle_trainer.config.base import ContractModel, Digest
from fettle_trainer.config.dataset import DatasetConfig, FilePath, RepositoryId

Steps = Annotated[int, Field(ge=1, le=10_000_000)]
Share = Annotated[float, Field(ge=0, lt=1)]
Name = Annotated[str, Field(min_length=1, max_length=253)]
MetricName = Literal[
    "loss", "perplexity", "token-accuracy", "exact-match", "f1", "bleu", "rouge-l", "accuracy", "macro-f1"
]
Threshold = Annotated[float, Field(ge=-1_000_000, le=1_000_000)]
Percent = Annotated[str, Field(pattern=r"^\d{1,3}(\.\d{1,2})?%$")]


class HubModel(ContractModel):
    """A model repository on the Hugging Face hub."""

    repo: RepositoryId
    revision: Annotated[str, Field(min_length=1, max_length=128)] = "main"
    token_file: FilePath | None = None


class ModelConfig(ContractModel):
    """The base model, and the adapter to continue from if there is one."""

    path: FilePath | None = None
    hugging_face: HubModel | None = None
    adapter: FilePath | None = None
    """An adapter directory for this base; training goes on from it."""
    digest: Digest | None = None
    """What the model's files must be, when that is known."""
    name: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    """What people call a model of a path, for the record of where a result comes from. None: its path."""

    @model_validator(mode="after")
    def _exactly_one_model(self) -> Self:
        if (self.path is None) == (self.hugging_face is None):
            msg = "a model has exactly one of path and huggingFace"
            raise ValueError(msg)
        return self


class LoraConfig(ContractModel):
    """The adapter to train, for the methods lora, qlora and dora."""

    rank: Annotated[int, Field(ge=1, le=1024)] | None = None
    alpha: Annotated[float, Field(gt=0, le=4096)] | None = None
    dropout: Share | None = None
    target_modules: (
        Literal["all-linear"] | Annotated[tuple[Name, ...], Field(min_length=1, max_length=64)]
    ) = "all-linear"
    rslora: bool = False
    init_weights: Literal["auto", "default", "pissa", "olora"] = "auto"
    lora_plus_ratio: Annotated[float, Field(ge=1, le=64)] | None = None


class LossConfig(ContractModel):
    """What the loss counts and how."""

    train_on: Literal["auto", "assistant", "completion", "all"] = "auto"
    """auto: the assistant's tokens in chats, the completion in pairs, all of a text."""
    plugin: Annotated[str, Field(max_length=63)] | None = None
    settings: Annotated[dict[Name, str], Field(max_length=16)] = Field(default_factory=dict)
    class_weights: Annotated[
        dict[Name, Annotated[float, Field(ge=0, le=1_000_000)]], Field(max_length=256)
    ] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _settings_have_a_reader(self) -> Self:
        if self.settings and self.plugin is None:
            msg = "settings need a plugin to read them"
            raise ValueError(msg)
        return self


class EarlyStopping(ContractModel):
    """Stop when the validation loss no longer falls."""

    patience: Annotated[int, Field(ge=1, le=1000)] = 3
    min_delta: Annotated[float, Field(ge=0, le=1000)] = 0.0


class TrainingConfig(ContractModel):
    """How the weights are trained."""

    epochs: Annotated[float, Field(gt=0, le=1000)] | None = None
    max_steps: Steps | None = None
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    batch_size: Annotated[int, Field(ge=1, le=65536)] | None = None
    """Rows for each optimizer step, over all processes together."""
    micro_batch_size: Annotated[int, Field(ge=1, le=4096)] | None = None
    """Rows that one process holds in memory at a time."""
    schedule: Literal["auto", "cosine", "linear", "constant", "wsd"] = "auto"
    warmup: Annotated[int, Field(ge=0, le=1_000_000)] | Percent | None = None
    weight_decay: Annotated[float, Field(ge=0, le=1)] | None = None
    optimizer: Literal["auto", "adamw", "adamw-8bit", "paged-adamw-8bit", "adafactor"] = "auto"
    loss: LossConfig = LossConfig()
    max_length: Annotated[int, Field(ge=8, le=1_048_576)] | None = None
    overlong: Literal["auto", "drop", "truncate", "fail"] = "auto"
    packing: bool | None = None
    gradient_checkpointing: bool | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 42
    neftune_alpha: Annotated[float, Field(ge=0, le=100)] | None = None
    eval_every: Steps | None = None
    save_every: Steps | None = None
    log_every: Steps | None = None
    early_stopping: EarlyStopping | None = None

    @model_validator(mode="after")
    def _values_agree(self) -> Self:
        if self.epochs is not None and self.max_steps is not None:
            msg = "give either epochs or maxSteps"
            raise ValueError(msg)
        batch, micro = self.batch_size, self.micro_batch_size
        if batch is not None and micro is not None and micro > batch:
            msg = "microBatchSize must not exceed batchSize"
            raise ValueError(msg)
        return self


class ZeroConfig(ContractModel):
    """DeepSpeed ZeRO."""

    stage: Literal[0, 1, 2, 3, "auto"] = "auto"
    offload: Literal["none", "optimizer", "parameters"] = "none"

    @model_validator(mode="after")
    def _offload_needs_its_stage(self) -> Self:
        if self.offload == "optimizer" and self.stage == 0:
            msg = "offload optimizer needs stage 1, 2 or 3"
            raise ValueError(msg)
        if self.offload == "parameters" and self.stage not in {"auto", 3}:
            msg = "offload parameters needs stage 3"
            raise ValueError(msg)
        return self


class DistributedConfig(ContractModel):
    """Over how many processes the run is spread."""

    nodes: Annotated[int, Field(ge=1, le=64)] = 1
    processes_per_node: Annotated[int, Field(ge=1, le=16)] = 1
    zero: ZeroConfig = ZeroConfig()
    grace_seconds: Annotated[int, Field(ge=15, le=86_400)] = 60
    """How long after SIGTERM the pod is killed; saving must be over by then."""


class Gate(ContractModel):
    """A bound that the result must keep, or the run ends with exit code 3."""

    metric: MetricName
    min: Threshold | None = None
    max: Threshold | None = None
    min_gain_over_base: Threshold | None = None

    @model_validator(mode="after")
    def _has_one_bound(self) -> Self:
        if [self.min, self.max, self.min_gain_over_base].count(None) != 2:
            msg = "a gate has exactly one of min, max and minGainOverBase"
            raise ValueError(msg)
        return self


class EvaluationConfig(ContractModel):
    """What is measured when training is over."""

    metrics: Annotated[tuple[MetricName, ...], Field(max_length=9)] = ()
    """None listed: those that fit the data's format."""
    samples: Annotated[int, Field(ge=0, le=10_000)] | None = None
    """From how many validation rows answers are generated."""
    compare_to_base: bool = True
    gates: Annotated[tuple[Gate, ...], Field(max_length=16)] = ()

    @model_validator(mode="after")
    def _gates_are_measured(self) -> Self:
        if not {gate.metric for gate in self.gates} <= set(self.metrics):
            msg = "gates may only name metrics that are listed in metrics"
            raise ValueError(msg)
        if not self.compare_to_base and any(gate.min_gain_over_base is not None for gate in self.gates):
            msg = "a gate with minGainOverBase needs compareToBase"
            raise ValueError(msg)
        return self


class OutputConfig(ContractModel):
    """Where the results go: `<directory>/<adapterName>/<digest>/`."""

    directory: FilePath
    adapter_name: Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", max_length=63)]
    exports: Annotated[tuple[Literal["adapter", "merged", "onnx", "gguf"], ...], Field(max_length=4)] = ()
    """None listed: adapter, or merged with method full."""
    work_directory: FilePath | None = None
    """Checkpoints and reports; runs that share it are attempts of one run. None: `<directory>/.fettle/<adapterName>`."""


class MlflowConfig(ContractModel):
    """An MLflow server that follows the run."""

    tracking_uri: Annotated[str, Field(pattern=r"^https?://\S+$", max_length=2048)]
    experiment: Annotated[str, Field(min_length=1, max_length=250)] = "fettle"
    token_file: FilePath | None = None


class TrackingConfig(ContractModel):
    """Who is told about the run."""

    tensorboard: bool = False
    mlflow: MlflowConfig | None = None
    progress_host: Annotated[str, Field(min_length=1, max_length=253)] = "127.0.0.1"
    """From where it can be asked; a pod says 0.0.0.0."""
    progress_port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """Where GET /progress and /metrics answer; 0 takes a free port. None: nowhere. A pod has it on 9400."""


class RunConfig(ContractModel):
    """One fine-tuning run, whole."""

    schema_version: Literal[1] = 1
    model: ModelConfig
    dataset: DatasetConfig
    method: Method = "lora"
    lora: LoraConfig = LoraConfig()
    training: TrainingConfig = TrainingConfig()
    distributed: DistributedConfig = DistributedConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    output: OutputConfig
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _method_and_settings_agree(self) -> Self:
        if self.method == "full" and self.lora != LoraConfig():
            msg = "lora has no effect with method full; remove it, or choose lora, qlora or dora"
            raise ValueError(msg)
        if self.method == "full" and self.model.adapter is not None:
            msg = "model.adapter cannot be continued with method full"
            raise ValueError(msg)
        return self
