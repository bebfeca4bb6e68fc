"""Finished trainings for the tests of export and evaluation: a tiny model, adapted and changed, with its data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import PreTrainedTokenizerBase, set_seed

from fettle_trainer.config import RunConfig
from fettle_trainer.config.adapter import Method
from fettle_trainer.evaluate.model_scores import HeldOut, held_out
from fettle_trainer.export.base_digest import model_digest
from fettle_trainer.export.flow import ExportJob
from fettle_trainer.export.lineage import Lineage, asked_settings, base_name, library_versions
from fettle_trainer.export.references import References, proof_prompts, record_references
from fettle_trainer.text.prepared import Prepared, prepare
from fettle_trainer.text.tokenizer import load_tokenizer
from fettle_trainer.train.model import load_base


@dataclass
class FinishedRun:
    """What a training leaves behind."""

    config: RunConfig
    model: Any
    tokenizer: PreTrainedTokenizerBase
    prepared: Prepared
    job: ExportJob
    references: References

    @property
    def data(self) -> HeldOut:
        return held_out(self.prepared, self.tokenizer, self.config.evaluation)


def chat_rows(count: int) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"What is {number}?"},
                {"role": "assistant", "content": f"It is {number}."},
            ]
        }
        for number in range(count)
    ]


def run_config(
    base: Path, folder: Path, rows: list[dict[str, Any]] | None = None, **changes: Any
) -> RunConfig:
    """Write the data and return the configuration; `changes` replace its parts."""
    folder.mkdir(exist_ok=True)
    data = folder / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows or chat_rows(12)))
    return RunConfig.model_validate(
        {
            "model": {"path": str(base)},
            "dataset": {"train": [{"path": str(data)}], "validation": [{"path": str(data)}]},
            "evaluation": {"samples": 4},
            "output": {"directory": str(folder / "out"), "adapterName": "tone"},
            **changes,
        }
    )


def adapted(base: Path, method: Method, *, moving: bool = True, **lora: Any) -> Any:
    """Return a model as training would leave it: adapted, and every trained weight moved."""
    set_seed(1)
    model = load_base(base, method, "fp32")
    if method == "full":
        return moved(model)
    options = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "use_dora": method == "dora"} | lora
    model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    return moved(model) if moving else model


def moved(model: Any) -> Any:
    """Move the trainable weights by small random steps."""
    torch.manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model


def finished_run(base: Path, folder: Path, model: Any, config: RunConfig) -> FinishedRun:
    """Return the run that ended with this model."""
    prepared = prepare(config, base, folder / "work")
    tokenizer = load_tokenizer(base)
    lineage = Lineage(
        base_name=base_name(config),
        base_digest=model_digest(base, folder / "work" / "base-digest.json"),
        method=config.method,
        dataset_digest=prepared.dataset_digest,
        seed=config.training.seed,
        settings=asked_settings(config),
        versions=library_versions(),
    )
    job = ExportJob(config, base, folder / "work", tokenizer, "fp32", lineage)
    references = record_references(model, proof_prompts(prepared, 3), 6)
    return FinishedRun(config, model, tokenizer, prepared, job, references)
