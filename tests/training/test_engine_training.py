"""The engine trains: what a step learns does not depend on how it is cut up, and validation counts every token once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from fettle_trainer.train.collate import IGNORED, Rows
from fettle_trainer.train.settings import Resolved
from small_engine import ROWS, SETTINGS, engine_of, logged
from token_rows import Table


def weights_after(folder: Path, work: Path, resolved: Resolved, **more: Any) -> dict[str, torch.Tensor]:
    engine = engine_of(folder, work, resolved, **more)
    engine.train()
    return {name: value.detach() for name, value in engine.model.named_parameters() if value.requires_grad}


@pytest.mark.parametrize(
    "cut", [{"micro_batch_size": 2, "micro_batches": 4}, {"micro_batch_size": 1, "micro_batches": 8},
            {"gradient_checkpointing": True}], ids=["2 x 4", "1 x 8", "checkpointed"],
)  # fmt: skip
def test_a_step_learns_the_same_however_it_is_cut_up(
    cut: dict[str, int], tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    whole = weights_after(tiny("llama"), tmp_path / "whole", SETTINGS)
    pieces = weights_after(tiny("llama"), tmp_path / "pieces", replace(SETTINGS, **cut))
    for name, wanted in whole.items():
        torch.testing.assert_close(pieces[name], wanted, rtol=1e-3, atol=2e-4, msg=name)


def test_a_step_of_packs_learns_what_a_step_of_their_rows_learns(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    apart = engine_of(
        tiny("llama"),
        tmp_path / "apart",
        replace(SETTINGS, batch_size=20, micro_batch_size=20, total_steps=1),
    )
    apart.train()
    together = engine_of(
        tiny("llama"),
        tmp_path / "packed",
        replace(SETTINGS, batch_size=2, micro_batch_size=1, micro_batches=2, total_steps=1),
    )
    together.train_dataset = Rows(Table(ROWS), [list(range(10)), list(range(10, 20))])
    together.data_collator._packed = True
    together.train()
    assert logged(together, "loss") == pytest.approx(logged(apart, "loss"), rel=1e-5)
    assert logged(together, "grad_norm") == pytest.approx(logged(apart, "grad_norm"), rel=1e-3)


def test_the_loss_falls_and_the_logs_say_what_was_done(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    engine = engine_of(
        tiny("qwen3"), tmp_path, replace(SETTINGS, total_steps=12, micro_batch_size=4, micro_batches=2)
    )
    engine.train()
    losses = logged(engine, "loss")
    assert losses[-1] < losses[0] - 0.2
    assert logged(engine, "num_tokens")[2] == sum(len(one.input_ids) for one in ROWS)
    assert sum(logged(engine, "trained_tokens")[:3]) == sum(
        int((one.labels[1:] != IGNORED).sum()) for one in ROWS
    )
    assert all(0 <= share < 0.6 for share in logged(engine, "padding_share"))
    assert all(0 <= share <= 1 for share in logged(engine, "mean_token_accuracy"))


def test_validation_counts_every_trained_token_once(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    engine = engine_of(tiny("llama"), tmp_path, replace(SETTINGS, micro_batch_size=2))
    found = engine.evaluate()
    base = AutoModelForCausalLM.from_pretrained(tiny("llama"), dtype=torch.float32).eval()
    total, correct, count = 0.0, 0, 0
    for one in ROWS[:5]:
        ids = torch.from_numpy(one.input_ids.astype(np.int64))
        with torch.no_grad():
            logits = base(input_ids=ids[None]).logits[0, :-1]
        labels = torch.from_numpy(one.labels.astype(np.int64))[1:]
        real = labels != IGNORED
        total += torch.nn.functional.cross_entropy(logits[real], labels[real], reduction="sum").item()
        correct += int((logits[real].argmax(-1) == labels[real]).sum())
        count += int(real.sum())
    assert found["eval_loss"] == pytest.approx(total / count, rel=1e-5)
    assert found["eval_mean_token_accuracy"] == pytest.approx(correct / count)


def test_a_weighted_row_counts_as_often_as_its_weight_says(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, batch_size=2, micro_batch_size=2, total_steps=1)
    engine = engine_of(tiny("llama"), tmp_path, settings)
    engine.train_dataset = Rows(Table(ROWS[:2]), weights=np.array([1.0, 0.0]))
    engine.train()
    alone = engine_of(tiny("llama"), tmp_path, settings)
    alone.train_dataset = Rows(Table(ROWS[:1]))
    alone.train()
    assert logged(engine, "loss") == pytest.approx(logged(alone, "loss"), rel=1e-5)
    assert logged(engine, "grad_norm") == pytest.approx(logged(alone, "grad_norm"), rel=1e-4)


def test_lora_plus_lets_the_b_matrices_learn_faster(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    plain = weights_after(tiny("llama"), tmp_path / "plain", SETTINGS)
    plus = weights_after(tiny("llama"), tmp_path / "plus", SETTINGS, lora_plus_ratio=8.0)
    norm = lambda weights: sum(value.norm().item() for name, value in weights.items() if "lora_B" in name)  # noqa: E731
    assert norm(plus) > 2 * norm(plain)
