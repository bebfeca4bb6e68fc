"""What lies beside the weights for people and engines: the compatibility note and the card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from adapter_files import safetensors, tensors, write_adapter
from fettle_trainer.adapter.directory import open_adapter_directory
from fettle_trainer.adapter.inspect import inspect_adapter
from fettle_trainer.config.compatibility import Compatibility
from fettle_trainer.config.evaluation_report import EvaluationReport
from fettle_trainer.config.manifest import MergeRecord
from fettle_trainer.export.card import adapter_card, model_card
from fettle_trainer.export.compatibility import compatibility
from fettle_trainer.export.lineage import Lineage

LINEAGE = Lineage(
    base_name="example/tiny", base_digest="sha256:" + "a" * 64, method="lora", dataset_digest="sha256:" + "b" * 64, seed=7
)  # fmt: skip
REPORT = EvaluationReport(
    row_format="chat", rows=20, samples=5, tuned={"loss": 0.5, "f1": 0.9}, base={"loss": 2.0}
)


def note_of(folder: Path, rank: int = 4, **config: Any) -> Compatibility:
    write_adapter(folder, weights=safetensors(tensors(rank=rank)), config_changes={"r": rank, **config})
    with open_adapter_directory(folder) as directory:
        return compatibility(inspect_adapter(directory))


@pytest.mark.parametrize(("rank", "step"), [(1, 1), (4, 8), (8, 8), (9, 16), (64, 64), (300, 320)])
def test_vllm_needs_the_next_rank_that_it_knows(tmp_path: Path, rank: int, step: int) -> None:
    note = note_of(tmp_path / "adapter", rank)
    assert (note.vllm.hot_loadable, note.vllm.max_lora_rank, note.vllm.obstacles) == (True, step, ())
    assert (note.rank, note.target_modules) == (rank, ("q_proj", "v_proj"))


@pytest.mark.parametrize(
    ("rank", "config", "obstacle"),
    [
        (4, {"modules_to_save": ["lm_head"]}, "Modules saved whole (lm_head)"),
        (4, {"bias": "all"}, "Trained biases"),
        (600, {}, "Rank 600: vLLM loads at most 512"),
    ],
)
def test_what_vllm_cannot_load_is_said_with_what_to_do_instead(
    tmp_path: Path, rank: int, config: dict[str, Any], obstacle: str
) -> None:
    note = note_of(tmp_path / "adapter", rank, **config)
    assert not note.vllm.hot_loadable
    assert note.vllm.max_lora_rank is None
    [said] = note.vllm.obstacles
    assert said.startswith(obstacle)
    assert "Serve the merged model" in said
    assert obstacle in adapter_card("tone", LINEAGE, REPORT, note)


def test_a_card_is_readable_by_the_hub_whatever_the_base_is_called(tmp_path: Path) -> None:
    name = 'a"b\nlicense: mit'
    lineage = Lineage(name, LINEAGE.base_digest, "lora", LINEAGE.dataset_digest, 7)
    card = adapter_card("tone", lineage, REPORT, note_of(tmp_path / "adapter"))
    head = yaml.safe_load(card.split("---")[1])
    assert head["base_model"] == name
    assert head["library_name"] == "peft"
    assert "license" not in head


def test_a_card_shows_both_models_side_by_side_and_what_was_not_measured(tmp_path: Path) -> None:
    card = adapter_card("tone", LINEAGE, REPORT, note_of(tmp_path / "adapter"))
    assert "| loss | 2 | 0.5 |" in card
    assert "| f1 | not measured | 0.9 |" in card
    assert "Not evaluated." in adapter_card("tone", LINEAGE, None, note_of(tmp_path / "adapter"))


def test_a_merged_model_says_what_it_was_merged_from() -> None:
    merge = MergeRecord(adapter="sha256:" + "c" * 64, base="dequantised", largest_difference=0.012)
    card = model_card("tone", LINEAGE, REPORT, merge)
    assert "sha256:" + "c" * 64 in card
    assert "the quantised weights that it was trained on" in card
    assert "0.012" in card
    assert "all weights trained" in model_card("tone", LINEAGE, REPORT, None)
