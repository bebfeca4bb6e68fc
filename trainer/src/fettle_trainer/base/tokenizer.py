"""The base model's tokenizer: byte-level BPE over its own little world, with ChatML turns."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Final

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Iterable

PAD: Final = "<|endoftext|>"
START: Final = "<|im_start|>"
END: Final = "<|im_end|>"


def train_tokenizer(texts: Iterable[str], vocabulary: int, max_positions: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer that knows every byte and the words of these texts."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=END,
        pad_token=PAD,
        model_max_length=max_positions,
        chat_template=resources.files(__package__).joinpath("chat_template.jinja").read_text(),
    )
