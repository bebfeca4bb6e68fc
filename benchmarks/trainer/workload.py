"""What every contender works on: a random Llama, a tokenizer whose tokens are words, and pairs of texts.

A text of n words is n tokens to all of them, so that the same rows are the same work for everybody.
"""

# ruff: noqa: INP001, S106 - a program for people, no package; its tokens are words

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

if TYPE_CHECKING:
    from pathlib import Path

WORDS = 8192
MAX_TOKENS = 512
PATTERNS = ("uneven", "fixed")
_PROMPT_SHARE = 0.4


def write_model(folder: Path) -> None:
    """Save the model and its tokenizer."""
    tokens = ["<unk>", "<pad>", "<eos>", *(f"w{number}" for number in range(WORDS - 3))]
    backend = Tokenizer(
        models.WordLevel({token: index for index, token in enumerate(tokens)}, unk_token="<unk>")
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=WORDS,
            hidden_size=256,
            intermediate_size=704,
            num_hidden_layers=6,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=1024,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=2,
            pad_token_id=1,
        )
    ).save_pretrained(folder)


def write_rows(path: Path, pattern: str, rows: int) -> int:
    """Write prompts and completions; return how many tokens they are, each row's end counted."""
    dice = random.Random(pattern)  # noqa: S311 - rows to read, nothing secret
    lengths = [_length(dice, pattern) for _ in range(rows)]
    with path.open("w") as file:
        for length in lengths:
            words = [f"w{dice.randrange(WORDS - 3)}" for _ in range(length)]
            cut = int(length * _PROMPT_SHARE)
            row = {"prompt": " ".join(words[:cut]), "completion": " " + " ".join(words[cut:])}
            file.write(json.dumps(row) + "\n")
    return sum(lengths) + rows


def _length(dice: random.Random, pattern: str) -> int:
    if pattern == "fixed":
        return 191
    # As chat data is: most rows short, some many times longer.
    return max(16, min(MAX_TOKENS - 1, int(dice.lognormvariate(4.6, 0.8))))
