"""Plain transformers and peft, as their documentation has it: rows padded to the longest of the batch."""

# ruff: noqa: INP001 - a program for people, no package

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from meter import Meter
from peft import LoraConfig, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Trainer,
    TrainingArguments,
)


def main(folder: Path, rows: Path, batch: int) -> None:
    """Train one epoch."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.config.use_cache = False
    model = get_peft_model(
        model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    meter = Meter()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(rows.parent / "hf"),
            num_train_epochs=1,
            per_device_train_batch_size=batch,
            learning_rate=2e-4,
            lr_scheduler_type="cosine",
            optim="adamw_torch_fused",
            use_cpu=True,
            logging_steps=10,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=[_tokenised(json.loads(line), tokenizer) for line in rows.open()],
        data_collator=meter.collating(DataCollatorForSeq2Seq(tokenizer)),
        callbacks=[meter],
    )
    meter.tell(trainer.train().training_loss)


def _tokenised(row: dict[str, str], tokenizer: Any) -> dict[str, list[int]]:
    prompt = tokenizer(row["prompt"]).input_ids
    ids = [*tokenizer(row["prompt"] + row["completion"]).input_ids, tokenizer.eos_token_id]
    return {
        "input_ids": ids,
        "attention_mask": [1] * len(ids),
        "labels": [-100] * len(prompt) + ids[len(prompt) :],
    }


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
