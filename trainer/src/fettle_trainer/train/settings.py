"""Every `auto` resolved: a value and the reason for it, from the configuration, the data, the model and the machine."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

from fettle_trainer.errors import WrongInputError
from fettle_trainer.train.memory import Load, estimate
from fettle_trainer.train.plan import steps_in_epoch

if TYPE_CHECKING:
    from fettle_trainer.config.adapter import Method
    from fettle_trainer.config.run import RunConfig, TrainingConfig
    from fettle_trainer.config.verification import VerifiedAdapter
    from fettle_trainer.train.hardware import Hardware
    from fettle_trainer.train.memory import ModelShape, Precision, ZeroStage

Optimizer = Literal["adamw", "adamw-8bit", "paged-adamw-8bit", "adafactor"]
Schedule = Literal["cosine", "linear", "constant", "wsd"]
InitWeights = Literal["default", "pissa", "olora"]

_BATCH: Final = 16
_MOST_MICRO: Final = {"cpu": 8, "cuda": 64}
_EPOCHS: Final = 3.0
_LEARNING_RATE: Final[dict[Method, float]] = {"lora": 2e-4, "qlora": 2e-4, "dora": 2e-4, "full": 1e-5}
_WARMUP_SHARE: Final = 0.03
_RANK: Final = 16
_USABLE: Final = 0.9
"""Share of the memory that a run may be planned to take."""


@dataclass(frozen=True)
class RowFacts:
    """What the settings need to know of the data; with packing a row is a pack."""

    rows: int
    max_length: int
    longest: int
    trained_share: float
    validation_rows: int


@dataclass(frozen=True)
class Resolved:
    """The settings of a run with nothing left open."""

    method: Method
    learning_rate: float
    batch_size: int
    micro_batch_size: int
    micro_batches: int
    """For each step and process."""
    world_size: int
    steps_per_epoch: int
    total_steps: int
    epochs: float
    warmup_steps: int
    schedule: Schedule
    weight_decay: float
    optimizer: Optimizer
    max_length: int
    packing: bool
    gradient_checkpointing: bool
    precision: Precision
    zero_stage: ZeroStage
    offload: Literal["none", "optimizer", "parameters"]
    eval_every: int | None
    save_every: int
    log_every: int
    seed: int
    rank: int
    alpha: float
    dropout: float
    init_weights: InitWeights
    memory_bytes: int
    """What one process is estimated to need."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why a value that was left open is what it is."""


def with_micro_batch(resolved: Resolved, micro_batch_size: int, reason: str) -> Resolved:
    """Return the same run in smaller pieces: the global batch, and so what is learnt, stays."""
    slots = resolved.batch_size / (resolved.world_size * micro_batch_size)
    return replace(
        resolved,
        micro_batch_size=micro_batch_size,
        micro_batches=max(1, math.ceil(slots)),
        reasons={**resolved.reasons, "microBatchSize": reason},
    )


def resolve(  # noqa: PLR0913 - what the settings are resolved from
    config: RunConfig,
    rows: RowFacts,
    shape: ModelShape,
    hardware: Hardware,
    *,
    varlen_attention: bool,
    earlier: VerifiedAdapter | None = None,
) -> Resolved:
    """Resolve all of them; raise WrongInputError on what this machine cannot do."""
    training = config.training
    reasons: dict[str, str] = {}
    world = config.distributed.nodes * config.distributed.processes_per_node
    precision = _precision(training, hardware, reasons)
    optimizer = _optimizer(training, hardware, reasons)
    batch = _batch_size(training, rows, reasons)
    per_epoch = steps_in_epoch(rows.rows, batch)
    total, epochs = _duration(training, per_epoch, reasons)
    load = Load(
        method=config.method,
        precision=precision,
        micro_batch_size=1,
        length=rows.longest,
        trained_share=rows.trained_share,
        world_size=world,
        eight_bit_optimizer="8bit" in optimizer,
        offload_optimizer=config.distributed.zero.offload == "optimizer",
        offload_parameters=config.distributed.zero.offload == "parameters",
    )
    load = _fitting(config, load, shape, hardware, batch, reasons)
    lora = config.lora
    rank = adapter_rank(config, earlier)
    _refuse_what_does_not_go_together(config, load)
    return Resolved(
        method=config.method,
        learning_rate=training.learning_rate or _LEARNING_RATE[config.method],
        batch_size=batch,
        micro_batch_size=load.micro_batch_size,
        micro_batches=math.ceil(batch / (world * load.micro_batch_size)),
        world_size=world,
        steps_per_epoch=per_epoch,
        total_steps=total,
        epochs=epochs,
        warmup_steps=_warmup(training, total, reasons),
        schedule="cosine" if training.schedule == "auto" else training.schedule,
        weight_decay=training.weight_decay or 0.0,
        optimizer=optimizer,
        max_length=rows.max_length,
        packing=packs_rows(training, hardware, varlen_attention=varlen_attention),
        gradient_checkpointing=load.gradient_checkpointing,
        precision=precision,
        zero_stage=load.zero_stage,
        offload=config.distributed.zero.offload,
        eval_every=_eval_every(training, rows, total),
        save_every=training.save_every or min(total, max(50, total // 20)),
        log_every=training.log_every or max(1, min(10, total // 50)),
        seed=training.seed,
        rank=rank,
        alpha=(earlier.alpha if earlier is not None else lora.alpha) or 2.0 * rank,
        dropout=lora.dropout or 0.0,
        init_weights="default" if lora.init_weights == "auto" else lora.init_weights,
        memory_bytes=estimate(shape, load).total,
        reasons=reasons,
    )


def packs_rows(training: TrainingConfig, hardware: Hardware, *, varlen_attention: bool) -> bool:
    """Say whether rows are packed: where it is left open, where attention needs no mask as large as their square."""
    if training.packing is not None:
        return training.packing
    return hardware.is_gpu and varlen_attention


def adapter_rank(config: RunConfig, earlier: VerifiedAdapter | None) -> int:
    """Return the adapter's rank, which the number of trainable weights depends on."""
    return (earlier.rank if earlier is not None else config.lora.rank) or _RANK


def _precision(training: TrainingConfig, hardware: Hardware, reasons: dict[str, str]) -> Precision:
    if training.precision == "auto":
        if hardware.bf16:
            reasons["precision"] = f"bf16: {hardware.name} computes in it"
            return "bf16"
        reasons["precision"] = (
            f"{'fp16' if hardware.is_gpu else 'fp32'}: {hardware.name} has no bf16 arithmetic"
        )
        return "fp16" if hardware.is_gpu else "fp32"
    if (
        training.precision != "fp32"
        and not hardware.is_gpu
        and not (hardware.bf16 and training.precision == "bf16")
    ):
        message = (
            f"training.precision {training.precision} needs a GPU or a CPU with avx512_bf16 or amx_bf16; on this CPU "
            "it would be some fifty times slower than fp32. Leave the field out."
        )
        raise WrongInputError("PrecisionUnsupported", message, "training.precision")
    if training.precision == "bf16" and not hardware.bf16:
        message = (
            f"training.precision bf16 is not supported by {hardware.name}. Use fp16, or leave the field out."
        )
        raise WrongInputError("PrecisionUnsupported", message, "training.precision")
    return training.precision


def _optimizer(training: TrainingConfig, hardware: Hardware, reasons: dict[str, str]) -> Optimizer:
    if training.optimizer == "auto":
        reasons["optimizer"] = "adamw: fused, and the adapter's state is small"
        return "adamw"
    if "8bit" in training.optimizer and not hardware.is_gpu:
        message = f"training.optimizer {training.optimizer} needs a GPU. Use adamw, or leave the field out."
        raise WrongInputError("OptimizerUnsupported", message, "training.optimizer")
    return training.optimizer


def _batch_size(training: TrainingConfig, rows: RowFacts, reasons: dict[str, str]) -> int:
    if training.batch_size is not None:
        return training.batch_size
    # A small dataset should still make some ten steps in an epoch.
    size = max(1, min(_BATCH, rows.rows // 10))
    if training.micro_batch_size is not None:
        size = max(size, training.micro_batch_size)
    reasons["batchSize"] = f"{size}: {rows.rows} rows"
    return size


def _duration(training: TrainingConfig, per_epoch: int, reasons: dict[str, str]) -> tuple[int, float]:
    if training.max_steps is not None:
        return training.max_steps, training.max_steps / per_epoch
    epochs = training.epochs or _EPOCHS
    if training.epochs is None:
        reasons["epochs"] = f"{_EPOCHS:g}: enough to learn, few enough not to learn by heart"
    return max(1, math.ceil(epochs * per_epoch)), epochs


def _warmup(training: TrainingConfig, total: int, reasons: dict[str, str]) -> int:
    if training.warmup is None:
        reasons["warmup"] = f"{_WARMUP_SHARE:.0%} of the steps"
        return math.ceil(_WARMUP_SHARE * total)
    if isinstance(training.warmup, str):
        return math.ceil(float(training.warmup.removesuffix("%")) / 100 * total)
    return min(training.warmup, total)


def _eval_every(training: TrainingConfig, rows: RowFacts, total: int) -> int | None:
    if not rows.validation_rows:
        return None
    return training.eval_every or min(total, max(50, total // 20))


def _fitting(  # noqa: PLR0913, PLR0917 - the choice depends on all of it
    config: RunConfig, load: Load, shape: ModelShape, hardware: Hardware, batch: int, reasons: dict[str, str]
) -> Load:
    """Choose ZeRO's stage, the checkpoints of the activations and the micro-batch, in this order."""
    usable = int(hardware.memory_bytes * _USABLE)

    def fits(load: Load) -> bool:
        return estimate(shape, load).total <= usable

    wished = config.training.gradient_checkpointing
    load = replace(load, gradient_checkpointing=bool(wished))
    load = _zero(config, load, shape, usable, reasons)
    micro = _micro_batch(config, load, batch, hardware, fits)
    if wished is None:
        small = replace(load, micro_batch_size=min(micro, 4))
        load = replace(load, gradient_checkpointing=not fits(small))
        reasons["gradientCheckpointing"] = (
            "on: without it the activations do not fit"
            if load.gradient_checkpointing
            else "off: it fits without"
        )
        micro = _micro_batch(config, load, batch, hardware, fits)
    if config.training.micro_batch_size is None:
        reasons["microBatchSize"] = f"{micro}: by the estimate of the memory"
    return replace(load, micro_batch_size=micro)


def _micro_batch(config: RunConfig, load: Load, batch: int, hardware: Hardware, fits) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001
    if config.training.micro_batch_size is not None:
        return config.training.micro_batch_size
    most = min(_MOST_MICRO[hardware.device], max(1, math.ceil(batch / load.world_size)))
    sizes = [size for size in (64, 32, 16, 8, 4, 2, 1) if size <= most]
    return next((size for size in sizes if fits(replace(load, micro_batch_size=size))), 1)


def _zero(config: RunConfig, load: Load, shape: ModelShape, usable: int, reasons: dict[str, str]) -> Load:
    zero = config.distributed.zero
    if zero.stage != "auto":
        return replace(load, zero_stage=zero.stage)
    if zero.offload != "none":
        stage: ZeroStage = 3 if zero.offload == "parameters" else 2
        reasons["zeroStage"] = f"{stage}: offload {zero.offload} needs it"
        return replace(load, zero_stage=stage)
    if load.world_size == 1:
        reasons["zeroStage"] = "0: one process has nobody to share with"
        return load
    for stage in (0, 2, 3):
        found = replace(load, zero_stage=stage)
        need = estimate(shape, found).total
        if need <= usable or stage == 3:
            reasons["zeroStage"] = (
                f"{stage}: {need / 2**30:.1f} GiB of {usable / 2**30:.1f} GiB for each process"
                + (", and sharing more would only cost time" if stage == 0 else "")
            )
            return found
    return load


def _refuse_what_does_not_go_together(config: RunConfig, load: Load) -> None:
    method, init = config.method, config.lora.init_weights
    if method in {"qlora", "dora"} and init in {"pissa", "olora"}:
        why = (
            "decomposes whole weights, which qlora has not"
            if method == "qlora"
            else "cannot be undone under DoRA"
        )
        message = f"lora.initWeights {init} {why}. Use method lora, or default."
        raise WrongInputError("InitUnsupported", message, "lora.initWeights")
    if load.zero_stage == 3 and init in {"pissa", "olora"}:
        message = (
            f"lora.initWeights {init} needs whole weights, ZeRO stage 3 splits them. Use stage 2, or default."
        )
        raise WrongInputError("InitUnsupported", message, "lora.initWeights")
    if config.model.adapter is not None and init in {"pissa", "olora"}:
        message = f"lora.initWeights {init} starts a new adapter, model.adapter continues one. Leave one of them out."
        raise WrongInputError("InitUnsupported", message, "lora.initWeights")
    if method == "qlora" and load.zero_stage == 3:
        message = "qlora cannot be split by ZeRO stage 3: its weights are packed. Use stage 0 to 2."
        raise WrongInputError("ZeroUnsupported", message, "distributed.zero.stage")
