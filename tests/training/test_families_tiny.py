"""The tiny models are what they stand for: a test on them says something about the family."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from tiny_models import FAMILIES, tiny_model

TIED = {"qwen2", "qwen3", "gemma2", "gemma3"}
ARCHITECTURES = {"phi4": "phi3"}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tiny_model_loads_as_its_family_with_its_ties(family: str, tiny: Callable[[str], Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny(family))

    assert type(model).__name__.lower() == f"{ARCHITECTURES.get(family, family)}forcausallm"
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == (family in TIED)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tiny_model_is_the_same_bytes_each_time(
    family: str, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    again = tiny_model(family, tmp_path)

    assert {path.name: path.read_bytes() for path in again.iterdir()} == {
        path.name: path.read_bytes() for path in tiny(family).iterdir()
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_survive_as_one_token_each(family: str, tiny: Callable[[str], Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny(family))
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello, é!"}]

    ids = tokenizer.apply_chat_template(turns, return_dict=False)

    assert tokenizer.decode(ids) == tokenizer.apply_chat_template(turns, tokenize=False)
    assert len(ids) < len(tokenizer.decode(ids)) / 1.5
