"""Rows of megabytes: tokenised in pieces, with the tokens that they would have in one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fettle_trainer.data.examples import Example, Turn
from fettle_trainer.text import tokens
from fettle_trainer.text.encode import Encoder
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
    largest: list[int] = []
    encode = tokens.RowTokenizer._encode

    def seen(self: tokens.RowTokenizer, texts: list[str]) -> list[object]:
        largest.extend(map(len, texts))
        return encode(self, texts)

    monkeypatch.setattr(tokens, "_LONGEST", 100)
    monkeypatch.setattr(tokens.RowTokenizer, "_encode", seen)
    assert encoder.encode(EXAMPLE) == whole
    assert max(largest) <= 100
    assert sum(whole.trained) > 50


def test_a_text_without_a_single_space_is_cut_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_LONGEST", 4)
    row = tokens.Rendered("abcdef hijk", ((5, 11),), 5, (5,), "", begins=False, ends=True)
    assert [(part.text, part.trained, part.answer, part.cuts) for part in tokens._parts(row)] == [
        ("abcd", (), 4, ()),
        ("ef", ((1, 2),), 1, (1,)),
        (" hij", ((0, 4),), 0, ()),
        ("k", ((0, 1),), 0, ()),
    ]
