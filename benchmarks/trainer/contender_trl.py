"""TRL's SFTTrainer, in each of the ways in which it treats uneven rows."""

# ruff: noqa: INP001 - a program for people, no package

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from datasets import load_dataset
from meter import Meter
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer
from workload import MAX_TOKENS

WAYS: dict[str, dict[str, Any]] = {
    "trl": {},
    "trl-grouped": {"train_sampling_strategy": "group_by_length"},
    "trl-padding-free": {"padding_free": True, "max_length": None},
    "trl-packed": {"packing": True},
}


def main(folder: Path, rows: Path, batch: int, way: str) -> None:
    """Train one epoch."""
    meter = Meter()
    trainer = SFTTrainer(
        model=str(folder),
        args=SFTConfig(
            output_dir=str(rows.parent / way),
            num_train_epochs=1,
            per_device_train_batch_size=_batch(rows, batch) if way == "trl-packed" else batch,
            learning_rate=2e-4,
            lr_scheduler_type="cosine",
            optim="adamw_torch_fused",
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            logging_steps=10,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            **{"max_length": MAX_TOKENS} | WAYS[way],
        ),
        train_dataset=load_dataset(
            "json", data_files=str(rows), split="train", cache_dir=str(rows.parent / "datasets")
        ),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        callbacks=[meter],
    )
    trainer.data_collator = meter.collating(trainer.data_collator)
    meter.tell(trainer.train().training_loss)


def _batch(rows: Path, batch: int) -> int:
    """Return how many full packs hold as many tokens as so many rows."""
    lengths = [len(line.split()) for line in rows.open()]
    return max(1, round(batch * sum(lengths) / len(lengths) / MAX_TOKENS))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
