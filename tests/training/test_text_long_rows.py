"""Rows of megabytes: tokenised in pieces, with the tokens that they would have in one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Encoding

from fettle_trainer.config import RunConfig
from fettle_trainer.data.examples import Example, Turn
from fettle_trainer.text import reading, tokens
from fettle_trainer.text.encode import Encoder
from fettle_trainer.text.prepared import prepare
from fettle_trainer.text.tokenizer import load_tokenizer

ANSWER = "Hold the power button for five seconds, then wait. (A node runs many pods.)\n" * 5
EXAMPLE = Example(
    (
        Turn("user", "How do I restart the printer? " * 9, trained=False),
        Turn("assistant", ANSWER, trained=True),
    )
)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2"])
def test_a_row_in_pieces_has_the_tokens_and_the_mask_that_it_has_in_one(
    family: str, tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder(load_tokenizer(tiny(family)), "chat")
    whole = encoder.encode(EXAMPLE)

    monkeypatch.setattr(tokens, "_LONGEST", 100)
    calls = calls_of_the_tokenizer(monkeypatch)

    assert encoder.encode(EXAMPLE) == whole
    assert max(size for sizes in calls for size in sizes) <= 100
    assert sum(whole.trained) > 50


def calls_of_the_tokenizer(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Return a list that grows by how many bytes each text has, for every call."""
    calls: list[list[int]] = []
    encode = tokens.RowTokenizer._encode

    def seen(self: tokens.RowTokenizer, texts: list[str]) -> list[Encoding]:
        calls.append([len(text.encode()) for text in texts])
        return encode(self, texts)

    monkeypatch.setattr(tokens.RowTokenizer, "_encode", seen)
    return calls


def test_wide_characters_fill_a_batch_and_a_piece_as_the_bytes_that_they_are(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"prompt": f"{n}?", "completion": "电源按钮" * (25 if n == 7 else 4)} for n in range(40)]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = {
        "model": {"path": "/unused"},
        "dataset": {"train": [{"path": str(data)}], "validationSplit": "0%"},
        "training": {"maxLength": 512},
        "output": {"directory": "/unused", "adapterName": "a"},
    }
    monkeypatch.setattr(tokens, "_LONGEST", 160)
    monkeypatch.setattr(reading, "_BATCH_BYTES", 1000)
    calls = calls_of_the_tokenizer(monkeypatch)

    prepared = prepare(RunConfig.model_validate(document), tiny("llama"), tmp_path / "work")

    assert max(map(sum, calls)) <= 1000 + 160
    assert max(size for sizes in calls for size in sizes) <= 160
    assert int(prepared.train.trained[7]) == 25 * 4 * 3 + 1, "a token for each byte, and the end"


def test_a_text_without_a_single_space_is_cut_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_LONGEST", 4)
    row = tokens.Rendered("abcdef hijk", ((5, 11),), 5, (5,), "", begins=False, ends=True)
    assert [(part.text, part.trained, part.answer, part.cuts) for part in tokens._parts(row)] == [
        ("abcd", (), 4, ()),
        ("ef", ((1, 2),), 1, (1,)),
        (" hij", ((0, 4),), 0, ()),
        ("k", ((0, 1),), 0, ()),
    ]
