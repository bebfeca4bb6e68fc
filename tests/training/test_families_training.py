"""Every family and every method trains from its own chat template to an artefact that a stranger can load."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from fettle_trainer.data.http import limits_from
from fettle_trainer.durable.stop import StopRequest
from fettle_trainer.train.fit import fit
from fettle_trainer.train.job import make_job
from fettle_trainer.train.phases import whole
from finished_runs import chat_rows, run_config
from tiny_models import FAMILIES

Tiny = Callable[[str], Path]

TIED = {"qwen2", "qwen3", "gemma2", "gemma3"}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"method": "lora"},
    "qlora": {"method": "qlora"},
    "dora": {"method": "dora"},
    "rslora": {"lora": {"rslora": True}},
    "lora+": {"lora": {"loraPlusRatio": 8}},
    "pissa": {"lora": {"initWeights": "pissa"}},
    "olora": {"lora": {"initWeights": "olora"}},
    "full": {"method": "full"},
}


@dataclass
class Run:
    """A training, and what it released."""

    losses: list[float]
    model: Any
    """As it was trained, still in memory."""
    artefact: Path


def train(base: Path, folder: Path, **changes: Any) -> Run:
    changes = {"lora": {}} | changes
    if changes.get("method") != "full":
        changes["lora"] = {"rank": 4} | changes["lora"]
    gentle = changes.get("method") == "full" or changes["lora"].keys() & {"initWeights", "loraPlusRatio"}
    rate = 0.003 if gentle else 0.02
    training = {"maxSteps": 8, "batchSize": 6, "learningRate": rate, "logEvery": 1}
    # What is proven and measured is tested elsewhere; two rows of it cost the least.
    held_out = folder / "held-out.jsonl"
    held_out.write_text("".join(json.dumps(row) + "\n" for row in chat_rows(2)))
    dataset = {"train": [{"path": str(folder / "data.jsonl")}], "validation": [{"path": str(held_out)}]}
    evaluation = {"samples": 1, "compareToBase": False}
    config = run_config(
        base, folder, chat_rows(12), training=training, dataset=dataset, evaluation=evaluation, **changes
    )
    engine = fit(make_job(config, limits_from({})), StopRequest(), [])
    outcome = whole(config, limits_from({}), lambda _: None)
    assert outcome.adapter is not None
    return Run(
        [entry["loss"] for entry in engine.state.log_history if "loss" in entry],
        engine.model,
        folder / "out" / outcome.adapter.path,
    )


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=torch.arange(40, 72)[None]).logits
    return found


def loaded_by_a_stranger(run: Run, base: Path, method: str) -> Any:
    """Load with transformers and PEFT alone, on the base as it always was."""
    if method == "full":
        return AutoModelForCausalLM.from_pretrained(run.artefact)
    four_bit = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
    quantised = {"quantization_config": four_bit} if method == "qlora" else {}
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, **quantised), run.artefact)


def ensure_it_learned_and_loads(run: Run, base: Path, method: str) -> None:
    live, fresh = logits(run.model), logits(loaded_by_a_stranger(run, base, method))
    assert run.losses[-1] < run.losses[0] - 0.1, run.losses
    assert not torch.allclose(fresh, logits(AutoModelForCausalLM.from_pretrained(base)), atol=1e-2)
    torch.testing.assert_close(fresh, live, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_and_its_adapter_loads(family: str, tiny: Tiny, tmp_path: Path) -> None:
    run = train(tiny(family), tmp_path)

    ensure_it_learned_and_loads(run, tiny(family), "lora")
    targets = json.loads((run.artefact / "adapter_config.json").read_text())["target_modules"]
    assert "lm_head" not in targets
    assert "embed_tokens" not in targets


@pytest.mark.parametrize("method", [method for method in METHODS if method != "lora"])
def test_every_method_learns_and_what_it_made_loads(method: str, tiny: Tiny, tmp_path: Path) -> None:
    run = train(tiny("llama"), tmp_path, **METHODS[method])

    ensure_it_learned_and_loads(run, tiny("llama"), method)


@pytest.mark.parametrize("family", sorted(TIED))
def test_tied_embeddings_are_still_tied_after_full_training(family: str, tiny: Tiny, tmp_path: Path) -> None:
    run = train(tiny(family), tmp_path, method="full")

    fresh = AutoModelForCausalLM.from_pretrained(run.artefact)
    assert fresh.get_input_embeddings().weight is fresh.get_output_embeddings().weight
    with safe_open(run.artefact / "model.safetensors", "pt") as file:
        assert "lm_head.weight" not in file.keys()  # noqa: SIM118 - an open safetensors file is no dict
    torch.testing.assert_close(logits(fresh), logits(run.model), rtol=1e-4, atol=2e-4)
