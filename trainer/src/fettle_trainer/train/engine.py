"""The engine: transformers' Trainer with our plan of the rows, our loss over the trained tokens, our evaluation.

Everything else of a run (checkpoints, stopping, progress, reports) is a callback or stands around it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from peft.optimizers import create_loraplus_optimizer
from torch.utils.data import DataLoader
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from fettle_trainer.durable.trainer import DurableTrainer
from fettle_trainer.train.collate import IGNORED, Collator, Rows
from fettle_trainer.train.plan import PlannedBatches, deal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fettle_trainer.train.settings import Resolved

_OPTIMIZERS: Final = {
    "adamw": "adamw_torch_fused",
    "adamw-8bit": "adamw_8bit",
    "paged-adamw-8bit": "paged_adamw_8bit",
    "adafactor": "adafactor",
}
_SCHEDULES: Final = {
    "cosine": "cosine",
    "linear": "linear",
    "constant": "constant_with_warmup",
    "wsd": "warmup_stable_decay",
}
_WSD_DECAY_SHARE: Final = 0.2


def training_arguments(
    resolved: Resolved,
    folder: Path,
    *,
    neftune_alpha: float | None = None,
    deepspeed: dict[str, Any] | None = None,
) -> TrainingArguments:
    """Return transformers' arguments for a run. With ZeRO they must exist before the model is loaded."""
    decay = max(1, int(_WSD_DECAY_SHARE * resolved.total_steps))
    return TrainingArguments(
        output_dir=str(folder),
        max_steps=resolved.total_steps,
        per_device_train_batch_size=resolved.micro_batch_size,
        per_device_eval_batch_size=resolved.micro_batch_size,
        gradient_accumulation_steps=resolved.micro_batches,
        learning_rate=resolved.learning_rate,
        lr_scheduler_type=_SCHEDULES[resolved.schedule],
        lr_scheduler_kwargs={"num_decay_steps": decay} if resolved.schedule == "wsd" else {},
        warmup_steps=resolved.warmup_steps,
        weight_decay=resolved.weight_decay,
        optim=_OPTIMIZERS[resolved.optimizer],
        bf16=resolved.precision == "bf16",
        fp16=resolved.precision == "fp16",
        use_cpu=not torch.cuda.is_available(),
        activation_checkpointing=resolved.gradient_checkpointing,
        activation_checkpointing_kwargs={"use_reentrant": False},
        seed=resolved.seed,
        neftune_noise_alpha=neftune_alpha,
        logging_strategy="steps",
        logging_steps=resolved.log_every,
        logging_nan_inf_filter=False,  # a loss that is no number must be seen
        eval_strategy="no" if resolved.eval_every is None else "steps",
        eval_steps=resolved.eval_every,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        save_strategy="steps",
        save_steps=resolved.save_every,
        # Without it early stopping loses count whenever a run is interrupted.
        restore_callback_states_from_checkpoint=True,
        average_tokens_across_devices=True,
        ddp_find_unused_parameters=False,
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
        deepspeed=deepspeed,
    )


class LastStepEvaluation(TrainerCallback):
    """Validates the last step too, wherever the others fall: the best checkpoint may be the last one."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Ask for it, where there is anything to validate on."""
        if state.global_step >= state.max_steps and args.eval_strategy != "no":
            control.should_evaluate = True


class Engine(DurableTrainer):
    """Trains `model`, which `teach_trained_tokens` has been applied to, on the rows of a table."""

    def __init__(  # noqa: PLR0913 - what is trained, on what, how, and who looks on
        self,
        model: Any,
        arguments: TrainingArguments,
        resolved: Resolved,
        train: Rows,
        validation: Rows | None,
        *,
        pad_id: int,
        lora_plus_ratio: float | None = None,
        **more: Any,
    ) -> None:
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=train,
            eval_dataset=validation,
            data_collator=Collator(pad_id, packed=train.packed),
            **more,
        )
        self.remove_callback(PrinterCallback)  # what there is to see is the watch's to show
        self.loss_is_scaled_for_ga = True  # compute_loss divides by the trained tokens of the whole step
        self._resolved = resolved
        self._validation = validation
        self.control: Any
        self.optimizer: Any
        self._collate_validation = Collator(pad_id, packed=False)
        self._lora_plus_ratio = lora_plus_ratio
        self._counts = _Counts()

    # ------------------------------------------------------------ rows

    def get_train_dataloader(self) -> DataLoader:
        """Return the micro-batches of this rank, by the plan."""
        resolved = self._resolved
        batches = PlannedBatches(
            self.train_dataset.lengths,
            seed=resolved.seed,
            batch_size=resolved.batch_size,
            micro_batch_size=resolved.micro_batch_size,
            micro_batches=resolved.micro_batches,
            world_size=self.args.world_size,
            rank=self.args.process_index,
        )
        return DataLoader(
            self.train_dataset,
            batch_sampler=batches,
            collate_fn=self.data_collator,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[Any], torch.Tensor | None]:
        """Fetch a step's micro-batches and count what is trained in them, over all ranks."""
        started = time.perf_counter()
        batches = [batch for _, batch in zip(range(num_batches), epoch_iterator, strict=False)]
        waited = time.perf_counter() - started
        weights = sum((_trained_weight(batch) for batch in batches), start=torch.zeros(()))
        tokens, cells = sum(map(_tokens, batches)), sum(batch["input_ids"].numel() for batch in batches)
        trained = sum(int((batch["targets"] != IGNORED).sum()) for batch in batches)
        sums = torch.tensor([float(weights), tokens, cells, trained], dtype=torch.float64)
        if self.args.world_size > 1:
            sums = self.accelerator.reduce(sums.to(device), reduction="sum").cpu()
        self.state.num_input_tokens_seen += int(sums[1])  # kept in the checkpoints
        self._counts.add(tokens=int(sums[1]), cells=int(sums[2]), trained=int(sums[3]), waited_s=waited)
        return batches, sums[0].float().to(device)

    # ------------------------------------------------------------ the step

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return this micro-batch's share of the step's loss."""
        # Ranks average their gradients, where the sum over the step's tokens is wanted.
        divisor = num_items_in_batch / self.args.world_size
        outputs = model(**inputs, divisor=divisor)
        self._counts.correct += outputs.correct.detach()
        self._counts.seen += outputs.total.detach()
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def create_optimizer(self, model: Any = None) -> Any:
        """Return the optimizer; LoRA+ gives the B matrices a learning rate of their own."""
        if self._lora_plus_ratio is None or self.optimizer is not None:
            return super().create_optimizer(model)
        kind, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        self.optimizer = create_loraplus_optimizer(
            self.model,
            kind,
            loraplus_lr_ratio=self._lora_plus_ratio,
            loraplus_weight_decay=self.args.weight_decay,
            **settings,
        )
        return self.optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what was counted since the last time."""
        if "loss" in logs:
            seen = float(self.state.num_input_tokens_seen)
            logs = {**logs, "num_tokens": seen, **self._counts.taken(self.accelerator)}
        super().log(logs, start_time)

    # ------------------------------------------------------------ validation

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Measure loss and token accuracy over all validation rows, each token counting once."""
        metrics = self._validated()
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _validated(self) -> dict[str, float]:
        validation = self._validation
        if validation is None:
            return {}
        model = self.model_wrapped
        model.eval()
        sums = torch.zeros(3, dtype=torch.float64, device=self.args.device)
        one = torch.ones((), device=self.args.device)
        with torch.no_grad(), self.compute_loss_context_manager():
            for batch in self._validation_batches(validation):
                outputs = model(**self._prepare_inputs(batch), divisor=one)
                real = batch["targets"].ne(IGNORED).any()
                if real:
                    sums += torch.stack(
                        [outputs.loss.double(), outputs.correct.double(), outputs.total.double()]
                    )
                self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        model.train()
        if self.args.world_size > 1:
            sums = self.accelerator.reduce(sums, reduction="sum")
        loss, correct, tokens = sums.tolist()
        return {
            "eval_loss": loss / max(tokens, 1.0),
            "eval_mean_token_accuracy": correct / max(tokens, 1.0),
            "epoch": self.state.epoch or 0.0,
        }

    def _validation_batches(self, validation: Rows) -> Iterator[dict[str, torch.Tensor]]:
        lengths = validation.lengths
        order = np.argsort(-lengths, kind="stable")
        per_step = self.args.world_size * self._resolved.micro_batch_size
        for at in range(0, len(order), per_step):
            [micro_batch] = deal(
                order[at : at + per_step],
                lengths,
                world_size=self.args.world_size,
                micro_batch_size=self._resolved.micro_batch_size,
                micro_batches=1,
            )[self.args.process_index]
            yield self._collate_validation([validation[row] for row in micro_batch])


class _Counts:
    """What is counted between two logs."""

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self.correct: Any = 0
        self.seen: Any = 0
        self._cells = 0
        self._tokens = 0
        self._trained = 0
        self._waited_s = 0.0

    def add(self, *, tokens: int, cells: int, trained: int, waited_s: float) -> None:
        self._tokens += tokens
        self._cells += cells
        self._trained += trained
        self._waited_s += waited_s

    def taken(self, accelerator: Any) -> dict[str, float]:
        sums = torch.tensor(
            [float(self.correct), float(self.seen)], dtype=torch.float64, device=accelerator.device
        )
        if accelerator.num_processes > 1:
            sums = accelerator.reduce(sums, reduction="sum")
        correct, seen = sums.tolist()
        logs = {
            "mean_token_accuracy": correct / max(seen, 1.0),
            "trained_tokens": float(self._trained),
            "padding_share": 1.0 - self._tokens / max(self._cells, 1),
            "data_wait_s": self._waited_s,
        }
        self._start()
        return logs


def _tokens(batch: dict[str, torch.Tensor]) -> int:
    mask = batch.get("attention_mask")
    if mask is not None:
        return int(mask.sum()) if batch["targets"].ne(IGNORED).any() else 0
    return int(batch["input_ids"].numel())


def _trained_weight(batch: dict[str, torch.Tensor]) -> torch.Tensor:
    return batch["weights"][batch["targets"] != IGNORED].sum()
