"""Training from the first step to the last, on all ranks alike.

load the base → adapt it → teach it the loss → probe the memory → run the steps
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from transformers import set_seed

from fettle_trainer.train.adapters import adapt
from fettle_trainer.train.collate import Rows
from fettle_trainer.train.engine import Engine, training_arguments
from fettle_trainer.train.loss import teach_trained_tokens
from fettle_trainer.train.model import load_base
from fettle_trainer.train.plugins import chosen_loss, class_weight_of

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from transformers import TrainingArguments

    from fettle_trainer.config.run import RunConfig
    from fettle_trainer.text.prepared import Prepared
    from fettle_trainer.train.settings import Resolved


@dataclass(frozen=True)
class Job:
    """A run with nothing left to decide: what every rank starts from."""

    config: RunConfig
    resolved: Resolved
    base: Path
    prepared: Prepared
    packs: list[list[int]] | None
    """The rows of each pack, where rows are packed."""


def arguments_for(job: Job, folder: Path, deepspeed: dict[str, Any] | None = None) -> TrainingArguments:
    """Return transformers' arguments; they start the process group, and with ZeRO-3 decide how weights are loaded."""
    return training_arguments(
        job.resolved, folder, neftune_alpha=job.config.training.neftune_alpha, deepspeed=deepspeed
    )


def build_engine(
    job: Job, arguments: TrainingArguments, *, pad_id: int, kind: type[Engine] = Engine, **more: Any
) -> Engine:
    """Load, adapt and wrap the model: everything up to the first step."""
    # The adapter's first weights come from the seed, on every rank and in every attempt the same.
    set_seed(job.resolved.seed)
    model = load_base(job.base, job.config.method, job.resolved.precision)
    model = adapt(model, job.config, job.resolved, job.base)
    if job.resolved.gradient_checkpointing:
        model.enable_input_require_grads()
    causal = model.get_base_model() if hasattr(model, "get_base_model") else model
    teach_trained_tokens(causal, chosen_loss(job.config.training.loss))
    validation = Rows(job.prepared.validation) if len(job.prepared.validation) else None
    return kind(
        model,
        arguments,
        job.resolved,
        Rows(job.prepared.train, job.packs, _weights(job)),
        validation,
        pad_id=pad_id,
        lora_plus_ratio=job.config.lora.lora_plus_ratio,
        **more,
    )


def longest_batch(engine: Engine, resolved: Resolved) -> dict[str, torch.Tensor]:
    """Return a micro-batch of the longest rows: what fits with it fits always."""
    lengths = engine.train_dataset.lengths
    longest = np.argsort(-lengths, kind="stable")[: resolved.micro_batch_size]
    batch: dict[str, torch.Tensor] = engine.data_collator([engine.train_dataset[int(row)] for row in longest])
    return batch


def _weights(job: Job) -> np.ndarray | None:
    wanted = job.config.training.loss.class_weights
    if not wanted:
        return None
    by_label = class_weight_of(job.prepared.labels, wanted)
    per_label = np.array([by_label[label] for label in job.prepared.labels], dtype=np.float32)
    return per_label[np.asarray(job.prepared.train.label_ids)]
