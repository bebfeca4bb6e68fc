"""A real engine on a tiny model and random rows: what the tests of training switch knobs of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, set_seed

from fettle_trainer.durable.checkpoints import CheckpointStore
from fettle_trainer.durable.record import RunShape
from fettle_trainer.durable.stop import AgreedStop, StopRequest
from fettle_trainer.durable.trainer import Durability
from fettle_trainer.train.collate import Rows
from fettle_trainer.train.engine import Engine, training_arguments
from fettle_trainer.train.loss import TokenLoss, cross_entropy, teach_trained_tokens
from fettle_trainer.train.settings import Resolved
from token_rows import Table, row

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = Resolved(
    method="lora", learning_rate=5e-3, batch_size=8, micro_batch_size=8, micro_batches=1, world_size=1,
    steps_per_epoch=3, total_steps=6, epochs=2.0, warmup_steps=0, schedule="constant", weight_decay=0.0,
    optimizer="adamw", max_length=64, packing=False, gradient_checkpointing=False, precision="fp32", zero_stage=0,
    offload="none", eval_every=None, save_every=1000, log_every=1, seed=3, rank=4, alpha=8.0, dropout=0.0,
    init_weights="default", memory_bytes=0,
)  # fmt: skip
ROWS = [row(length, seed=length) for length in range(9, 29)]


def engine_of(
    folder: Path,
    work: Path,
    resolved: Resolved = SETTINGS,
    *,
    neftune_alpha: float | None = None,
    token_loss: TokenLoss = cross_entropy,
    **more: Any,
) -> Engine:
    set_seed(resolved.seed)
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", r=4, target_modules="all-linear"))
    if resolved.gradient_checkpointing:
        model.enable_input_require_grads()
    teach_trained_tokens(base, token_loss)
    shape = RunShape(
        run_digest="sha256:" + 64 * "0", method="lora", world_size=1, global_batch=resolved.batch_size,
        micro_batch=resolved.micro_batch_size,
    )  # fmt: skip
    return Engine(
        model,
        training_arguments(resolved, work, neftune_alpha=neftune_alpha),
        resolved,
        Rows(Table(ROWS)),
        Rows(Table(ROWS[:5])),
        pad_id=0,
        durability=Durability(CheckpointStore(work), shape, AgreedStop(StopRequest())),
        **more,
    )


def logged(engine: Engine, name: str) -> list[float]:
    return [entry[name] for entry in engine.state.log_history if name in entry]
