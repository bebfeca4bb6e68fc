"""Training from the first step to the last, on all ranks alike.

join the ranks → load the base → adapt it → teach it the loss → run the steps → leave what is to be exported
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from transformers import EarlyStoppingCallback, set_seed

from fettle_trainer.durable.checkpoints import CheckpointStore
from fettle_trainer.durable.ranks import join_ranks
from fettle_trainer.durable.record import RunShape
from fettle_trainer.durable.resume import choose_checkpoint
from fettle_trainer.durable.stop import AgreedStop, StopRequest, stopped
from fettle_trainer.durable.trainer import Durability
from fettle_trainer.durable.watchdog import LossWatchdog
from fettle_trainer.durable.zero import deepspeed_config
from fettle_trainer.text.tokenizer import load_tokenizer
from fettle_trainer.train.adapters import adapt, keep_initial_adapter, load_trained_adapter
from fettle_trainer.train.collate import Rows
from fettle_trainer.train.engine import Engine, LastStepEvaluation, training_arguments
from fettle_trainer.train.loss import teach_trained_tokens
from fettle_trainer.train.model import load_base
from fettle_trainer.train.plugins import chosen_loss, class_weight_of

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import TrainerCallback, TrainingArguments

    from fettle_trainer.config.run import RunConfig
    from fettle_trainer.text.prepared import Prepared
    from fettle_trainer.train.folders import RunFolders
    from fettle_trainer.train.hardware import Hardware
    from fettle_trainer.train.memory import ModelShape
    from fettle_trainer.train.settings import Resolved


@dataclass(frozen=True)
class Job:
    """A run with nothing left to decide: what every rank starts from."""

    config: RunConfig
    resolved: Resolved
    folders: RunFolders
    base: Path
    base_digest: str
    parent: str | None
    """The digest of the adapter that training goes on from."""
    prepared: Prepared
    packs: list[list[int]] | None
    """The rows of each pack, where rows are packed."""
    hardware: Hardware
    shape: ModelShape


_SPLIT_ONLY: Final = frozenset(
    {"micro_batch_size", "micro_batches", "world_size", "zero_stage", "offload", "gradient_checkpointing",
     "memory_bytes", "reasons", "eval_every", "save_every", "log_every"}
)  # fmt: skip
"""Settings that decide how the work is cut up or watched, and nothing about what is learnt."""


def run_shape(job: Job) -> RunShape:
    """Return what a checkpoint of this run must fit."""
    learnt = {name: value for name, value in asdict(job.resolved).items() if name not in _SPLIT_ONLY}
    training = job.config.training
    parts = [
        learnt,
        job.base_digest,
        job.prepared.dataset_digest,
        job.prepared.template_digest,
        job.config.lora.model_dump(mode="json"),
        training.loss.model_dump(mode="json"),
        training.neftune_alpha,
        job.config.model.adapter,
    ]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return RunShape(
        run_digest=f"sha256:{digest}",
        method=job.resolved.method,
        world_size=job.resolved.world_size,
        global_batch=job.resolved.batch_size,
        micro_batch=job.resolved.micro_batch_size,
        zero_stage=job.resolved.zero_stage if needs_deepspeed(job.resolved) else None,
    )


def needs_deepspeed(resolved: Resolved) -> bool:
    """Say whether DeepSpeed brings anything; plain data parallelism needs less and starts faster."""
    return resolved.zero_stage > 0 or resolved.offload != "none"


def fit(job: Job, request: StopRequest, callbacks: list[TrainerCallback]) -> Engine:
    """Train to the end, from the newest checkpoint if there is one; raise StoppedError when asked to stop before."""
    resolved = job.resolved
    join_ranks(with_deepspeed=needs_deepspeed(resolved))
    # With ZeRO-3 these decide how the weights are loaded, so they come before the model.
    arguments = _arguments(job)
    store, shape = CheckpointStore(job.folders.checkpoints), run_shape(job)
    checkpoint = choose_checkpoint(store, shape)
    if checkpoint is not None and checkpoint.facts.training_complete:
        # The last attempt ended after its last step, which early stopping may have made an earlier one.
        arguments.max_steps = checkpoint.facts.step
    stop = AgreedStop(request)
    engine = build_engine(
        job,
        arguments,
        durability=Durability(store, shape, stop),
        callbacks=[*_own_callbacks(job), *callbacks],
    )
    engine.resume(checkpoint)
    if stop.stopped:
        raise stopped(request.requested)
    return engine


def build_engine(job: Job, arguments: TrainingArguments, **more: Any) -> Engine:
    """Load, adapt and wrap the model: everything up to the first step."""
    model = adapted_base(job)
    if job.resolved.init_weights != "default" and arguments.process_index == 0:
        job.folders.work.mkdir(parents=True, exist_ok=True)
        keep_initial_adapter(model, job.folders.initial_adapter)
    if job.resolved.gradient_checkpointing:
        model.enable_input_require_grads()
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    teach_trained_tokens(causal, chosen_loss(job.config.training.loss))
    tokenizer = load_tokenizer(job.base)
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return Engine(
        model,
        arguments,
        job.resolved,
        Rows(job.prepared.train, job.packs, _weights(job)),
        Rows(job.prepared.validation) if len(job.prepared.validation) else None,
        pad_id=pad_id or 0,
        lora_plus_ratio=job.config.lora.lora_plus_ratio,
        **more,
    )


def adapted_base(job: Job) -> Any:
    """Load the base and put the adapter on it, as it is before the first step."""
    # The adapter's first weights come from the seed, on every rank and in every attempt the same.
    set_seed(job.resolved.seed)
    return adapt(
        load_base(job.base, job.config.method, job.resolved.precision), job.config, job.resolved, job.base
    )


def trained_model(job: Job, checkpoint: Path) -> Any:
    """Load what a checkpoint holds, on one process, however many ranks wrote it."""
    if job.config.method == "full":
        return load_base(checkpoint, "full", job.resolved.precision)
    model = adapted_base(job)
    load_trained_adapter(model, checkpoint)
    return model


def _arguments(job: Job) -> TrainingArguments:
    resolved = job.resolved
    deepspeed = (
        deepspeed_config(
            resolved.zero_stage, resolved.precision, resolved.offload, on_gpu=job.hardware.is_gpu
        )
        if needs_deepspeed(resolved)
        else None
    )
    return training_arguments(
        resolved,
        job.folders.checkpoints,
        neftune_alpha=job.config.training.neftune_alpha,
        deepspeed=deepspeed,
    )


def _own_callbacks(job: Job) -> list[TrainerCallback]:
    callbacks: list[TrainerCallback] = [LossWatchdog(), LastStepEvaluation()]
    early = job.config.training.early_stopping
    if early is not None and job.resolved.eval_every is not None:
        callbacks.append(EarlyStoppingCallback(early.patience, early.min_delta))
    return callbacks


def _weights(job: Job) -> np.ndarray | None:
    wanted = job.config.training.loss.class_weights
    if not wanted:
        return None
    by_label = class_weight_of(job.prepared.labels, wanted)
    per_label = np.array([by_label[label] for label in job.prepared.labels], dtype=np.float32)
    weights: np.ndarray = per_label[job.prepared.train.label_ids]
    return weights
