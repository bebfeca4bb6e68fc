"""How a FineTuneJob trains: adapter shape, hyper-parameters, distribution. What is left out is auto."""

from typing import Annotated, Literal

from pydantic import Field

from fettle_operator.api.base import KubeModel
from fettle_operator.api.markers import IntOrString, ListSet, Rule, Takes, at_most_one_of, keys_match
from fettle_operator.api.scalars import Label, Percent, ShortText

__all__ = ["Distributed", "EarlyStopping", "Lora", "Loss", "Method", "Training", "Zero"]

Method = Literal["lora", "qlora", "dora", "full"]

Steps = Annotated[int, Field(ge=1, le=10_000_000)]
Warmup = Annotated[
    Annotated[int, Field(ge=0, le=1_000_000)] | Percent,
    IntOrString("a number of steps, or a share of them such as 3%"),
]
ZeroStage = Annotated[Annotated[int, Field(ge=0, le=3)] | Literal["auto"], IntOrString("0, 1, 2, 3 or auto")]
ModuleName = Annotated[
    str,
    Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.-]+$"),
    Takes("the name of a module, such as q_proj or mlp.down_proj"),
]


class Lora(KubeModel):
    """The shape of the adapter."""

    rank: Annotated[int, Field(ge=1, le=1024)] | None = Field(default=None, description="Rank of the update.")
    alpha: Annotated[float, Field(gt=0, le=4096)] | None = Field(
        default=None, description="Scale of the update. Left out: twice the rank."
    )
    dropout: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        default=None, description="Share of the adapter's inputs dropped while training."
    )
    target_modules: (
        Annotated[
            list[ModuleName],
            Field(min_length=1, max_length=64),
            ListSet(),
        ]
        | None
    ) = Field(
        default=None,
        description="Names of the modules to adapt, such as q_proj. Left out: all linear layers except the output head.",
    )
    rslora: bool | None = Field(default=None, description="Scale by the square root of the rank.")
    init_weights: Literal["auto", "default", "pissa", "olora"] | None = Field(
        default=None,
        description="How the adapter starts. PiSSA and OLoRA are converted on save, so the base stays.",
    )
    lora_plus_ratio: Annotated[float, Field(ge=1, le=64)] | None = Field(
        default=None, description="LoRA+: how many times faster the B matrices learn than the A matrices."
    )


class Loss(KubeModel):
    """What the loss counts and how."""

    rules = (
        Rule(
            expression="!has(self.settings) || has(self.plugin)",
            message="settings need a plugin to read them",
            holds=lambda self: self.settings is None or self.plugin is not None,
            field="settings",
        ),
        keys_match("settings", "settings", "^[A-Za-z][A-Za-z0-9_]*$", 64, "a name of letters, digits and _"),
        keys_match(
            "classWeights", "class_weights", "^.+$", 128, "the name of a class, of at most 128 characters"
        ),
    )

    train_on: Literal["auto", "assistant", "completion", "all"] | None = Field(
        default=None,
        description="Which tokens are trained. Auto: the assistant's in chats, the completion in pairs, all of a text.",
    )
    plugin: Label | None = Field(
        default=None, description="Name of another loss that the trainer image carries."
    )
    settings: Annotated[dict[str, ShortText], Field(max_length=16)] | None = Field(
        default=None, description="Settings of the plugin."
    )
    class_weights: (
        Annotated[dict[str, Annotated[float, Field(ge=0, le=1_000_000)]], Field(max_length=256)] | None
    ) = Field(default=None, description="Weight of each class, for classification.")


class EarlyStopping(KubeModel):
    """When to stop before the end, because the validation loss no longer falls."""

    patience: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="How many evaluations in a row may bring nothing."
    )
    min_delta: Annotated[float, Field(ge=0, le=1000)] | None = Field(
        default=None, description="How much the loss must fall to count as progress."
    )


class Training(KubeModel):
    """Hyper-parameters. What is left out is chosen from model, data and hardware, and shown in status.resolved."""

    rules = (
        at_most_one_of("epochs", "maxSteps"),
        Rule(
            expression="!has(self.batchSize) || !has(self.microBatchSize) || self.microBatchSize <= self.batchSize",
            message="microBatchSize must not exceed batchSize",
            holds=lambda self: (
                self.batch_size is None
                or self.micro_batch_size is None
                or self.micro_batch_size <= self.batch_size
            ),
            field="microBatchSize",
        ),
    )

    epochs: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        default=None, description="How many times the data is seen; a part of it is allowed."
    )
    max_steps: Steps | None = Field(default=None, description="How many optimizer steps, instead of epochs.")
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="Highest learning rate."
    )
    batch_size: Annotated[int, Field(ge=1, le=65536)] | None = Field(
        default=None, description="Rows for each optimizer step, over all processes together."
    )
    micro_batch_size: Annotated[int, Field(ge=1, le=4096)] | None = Field(
        default=None, description="Rows that one process holds in memory at a time."
    )
    schedule: Literal["auto", "cosine", "linear", "constant", "wsd"] | None = Field(
        default=None, description="How the learning rate goes on after the warm-up."
    )
    warmup: Warmup | None = Field(
        default=None, description="Length of the warm-up: a number of steps, or a share of them such as 3%."
    )
    weight_decay: Annotated[float, Field(ge=0, le=1)] | None = Field(
        default=None, description="How fast weights decay towards zero."
    )
    optimizer: Literal["auto", "adamw", "adamw-8bit", "paged-adamw-8bit", "adafactor"] | None = Field(
        default=None, description="The optimizer."
    )
    loss: Loss | None = Field(default=None, description="What the loss counts and how.")
    max_length: Annotated[int, Field(ge=8, le=1_048_576)] | None = Field(
        default=None, description="Longest row, in tokens."
    )
    overlong: Literal["auto", "drop", "truncate", "fail"] | None = Field(
        default=None,
        description="What happens to longer rows. Auto: drop. They are counted in status.dataset.",
    )
    packing: bool | None = Field(
        default=None, description="Put several rows into one sequence, none of which sees another."
    )
    gradient_checkpointing: bool | None = Field(
        default=None, description="Save memory by computing activations twice."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] | None = Field(
        default=None, description="Number format of the computation."
    )
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None, description="Seed of everything random."
    )
    neftune_alpha: Annotated[float, Field(ge=0, le=100)] | None = Field(
        default=None, description="NEFTune: strength of the noise on embeddings; 0 is none."
    )
    eval_every: Steps | None = Field(default=None, description="Steps between evaluations.")
    save_every: Steps | None = Field(default=None, description="Steps between checkpoints.")
    log_every: Steps | None = Field(default=None, description="Steps between lines of metrics.")
    early_stopping: EarlyStopping | None = Field(
        default=None, description="When to stop before the end; an empty object stops by the usual values."
    )


class Zero(KubeModel):
    """DeepSpeed ZeRO: what the processes share out among themselves."""

    rules = (
        Rule(
            expression="!has(self.offload) || self.offload != 'optimizer' || !has(self.stage) || self.stage != 0",
            message="offload optimizer needs stage 1, 2 or 3",
            holds=lambda self: self.offload != "optimizer" or self.stage != 0,
            field="offload",
        ),
        Rule(
            expression="!has(self.offload) || self.offload != 'parameters' || !has(self.stage) || "
            "self.stage == 'auto' || self.stage == 3",
            message="offload parameters needs stage 3",
            holds=lambda self: self.offload != "parameters" or self.stage in {None, "auto", 3},
            field="offload",
        ),
    )

    stage: ZeroStage | None = Field(
        default=None,
        description="0: nothing, 1: optimizer state, 2: gradients too, 3: weights too. Left out or auto: by a memory model.",
    )
    offload: Literal["none", "optimizer", "parameters"] | None = Field(
        default=None, description="What is kept in the node's memory instead of the GPU's."
    )


class Distributed(KubeModel):
    """Over how many processes the training runs."""

    nodes: Annotated[int, Field(ge=1, le=64)] = Field(default=1, description="How many pods.")
    processes_per_node: Annotated[int, Field(ge=1, le=16)] = Field(
        default=1,
        description="How many processes in each pod, each with the GPUs that the profile gives a process.",
    )
    zero: Zero | None = Field(default=None, description="DeepSpeed ZeRO. Left out: by a memory model.")
