"""Packing: every row in one pack, no pack too long, few packs, and the same ones every time."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fettle_trainer.config import RunConfig
from fettle_trainer.text.packing import best_fit
from fettle_trainer.text.prepared import prepare
from fettle_trainer.text.tokenizer import load_tokenizer
from fettle_trainer.train.collate import Collator, Rows
from tiny_models import FAMILIES


@pytest.mark.parametrize(
    ("lengths", "capacity", "packs"),
    [
        ([], 8, []),
        ([8], 8, [[0]]),
        ([3, 5, 8], 8, [[2], [1, 0]]),
        ([4, 3, 4, 5], 8, [[3, 1], [0, 2]]),
        # The tightest room is taken, not the first one.
        ([6, 5, 3, 2], 8, [[0, 3], [1, 2]]),
        ([5, 6, 2], 8, [[1, 2], [0]]),
        ([1, 1, 1], 2, [[0, 1], [2]]),
    ],
)
def test_rows_go_where_the_least_room_remains(
    lengths: list[int], capacity: int, packs: list[list[int]]
) -> None:
    assert best_fit(lengths, capacity) == packs


@pytest.mark.parametrize("capacity", [64, 1000, 4096])
def test_every_row_stands_in_one_pack_and_hardly_any_room_is_wasted(capacity: int) -> None:
    random = np.random.default_rng(capacity)
    lengths = np.minimum(random.geometric(8 / capacity, 20_000), capacity)

    packs = best_fit(lengths, capacity)

    assert sorted(row for pack in packs for row in pack) == list(range(len(lengths)))
    assert max(int(lengths[pack].sum()) for pack in packs) <= capacity
    assert len(packs) <= 1 + 1.01 * lengths.sum() / capacity
    assert packs == best_fit(lengths.tolist(), capacity)


def test_a_row_longer_than_a_pack_is_an_error() -> None:
    with pytest.raises(ValueError, match="9 tokens does not fit into 8"):
        best_fit([3, 9], 8)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_packed_batch_trains_each_rows_own_words_and_no_first_token(
    family: str, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {n}?"},
                {"role": "assistant", "content": "one " * n},
            ]
        }
        for n in range(1, 12)
    ]
    data = tmp_path / "a.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = {
        "model": {"path": "/unused"},
        "dataset": {"train": [{"path": str(data)}], "validationSplit": "0%"},
        "training": {"maxLength": 40, "overlong": "truncate"},
        "output": {"directory": "/unused", "adapterName": "a"},
    }
    table = prepare(RunConfig.model_validate(document), tiny(family), tmp_path / "work").train
    packs = best_fit(table.lengths, 120)
    assert max(map(len, packs)) > 1

    packed = Rows(table, packs)
    batch = Collator(0, packed=True)([packed[number] for number in range(len(packs))])

    ids, targets = batch["input_ids"][0].tolist(), batch["targets"][0].tolist()
    starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
    in_order = [table.row(row) for pack in packs for row in pack]
    assert starts == np.cumsum([0, *(len(row.input_ids) for row in in_order[:-1])]).tolist()
    for start, row in zip(starts, in_order, strict=True):
        end = start + len(row.input_ids)
        assert ids[start:end] == row.input_ids.tolist()
        # Each token's target is the next one, where that is trained; the last has none, for the next is another row's.
        assert targets[start:end] == [*row.labels[1:].tolist(), -100]
    words = load_tokenizer(tiny(family)).decode([target for target in targets if target >= 0])
    assert "What" not in words
    assert words.count("one") >= 11
