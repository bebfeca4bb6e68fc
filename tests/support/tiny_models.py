"""Tiny random models of every family that the trainer supports, made here: no hub, milliseconds each.

What differs between the families is real: architecture, tied embeddings, special tokens, whether a text begins with
BOS, the chat template and what it refuses. What costs time is small: two layers, a vocabulary of 384.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GenerationConfig,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

VOCABULARY: Final = 384
MAX_POSITIONS: Final = 512
_TEMPLATES: Final = Path(__file__).parent / "tiny_templates"
_SENTENCES: Final = (
    "The assistant answers the question of the user in one short sentence.",
    "A pod is the smallest unit that can be deployed. A node runs many pods.",
    "How do I restart the printer? Hold the power button for five seconds, then wait.",
    "What is the capital of France? The capital of France is Paris.",
    'Ticket 4711: {"category": "billing", "priority": "high"}, please call back on Monday.',
    "system user assistant model tool: you are a helpful assistant, be brief and friendly.",
)


class _Family(NamedTuple):
    """What makes a family itself."""

    config: type[Any]
    specials: tuple[str, ...]
    bos: str | None
    """Put before every text by the tokenizer, as the real one does; None where the real one has no BOS."""
    eos: str
    pad: str | None
    stops: tuple[str, ...]
    """The tokens that end an answer in generation_config.json."""
    tied: bool
    more: Mapping[str, Any] = MappingProxyType({})


_QWEN: Final = _Family(
    Qwen2Config,
    ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    bos=None,
    eos="<|im_end|>",
    pad="<|endoftext|>",
    stops=("<|im_end|>", "<|endoftext|>"),
    tied=True,
)
_HEADS: Final = {"head_dim": 16}
_GEMMA: Final = _Family(
    Gemma2Config,
    ("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
    bos="<bos>",
    eos="<eos>",
    pad="<pad>",
    stops=("<eos>", "<end_of_turn>"),
    tied=True,
    more=_HEADS | {"sliding_window": 64, "query_pre_attn_scalar": 16},
)
_FAMILIES: Final = {
    "llama": _Family(
        LlamaConfig,
        (
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|finetune_right_pad_id|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eom_id|>",
            "<|eot_id|>",
        ),
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        pad="<|finetune_right_pad_id|>",
        stops=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        tied=False,
    ),
    "mistral": _Family(
        MistralConfig,
        ("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
        bos="<s>",
        eos="</s>",
        pad=None,
        stops=("</s>",),
        tied=False,
        more={"sliding_window": None},
    ),
    "qwen2": _QWEN,
    "qwen3": _QWEN._replace(config=Qwen3Config, more=_HEADS),
    "phi3": _Family(
        Phi3Config,
        ("<unk>", "<s>", "</s>", "<|endoftext|>", "<|assistant|>", "<|system|>", "<|end|>", "<|user|>"),
        bos=None,  # Phi-3's tokenizer has a BOS token and does not add it
        eos="<|endoftext|>",
        pad="<|endoftext|>",
        stops=("<|endoftext|>", "<|assistant|>", "<|end|>"),
        tied=False,
    ),
    # Phi-4 is Phi-3's architecture with another tokenizer and another way to write turns.
    "phi4": _Family(
        Phi3Config,
        ("<|endoftext|>", "<|im_start|>", "<|im_sep|>", "<|im_end|>", "<|dummy_85|>"),
        bos=None,
        eos="<|im_end|>",
        pad="<|dummy_85|>",
        stops=("<|im_end|>",),
        tied=False,
    ),
    "gemma2": _GEMMA,
    "gemma3": _GEMMA._replace(config=Gemma3TextConfig, more={**_GEMMA.more, "sliding_window_pattern": 2}),
}

FAMILIES: Final = tuple(_FAMILIES)


def tiny_model(family: str, folder: Path, *, seed: int = 0) -> Path:
    """Save a random model of the family, its tokenizer and its chat template; the same bytes for the same seed."""
    traits = _FAMILIES[family]
    tokenizer = _tokenizer(family, traits)
    tokenizer.save_pretrained(folder)
    ids = {token: tokenizer.convert_tokens_to_ids(token) for token in traits.specials}
    generator_state = torch.get_rng_state()
    torch.manual_seed(seed)
    try:
        model = AutoModelForCausalLM.from_config(_config(traits, ids), dtype=torch.float32)
    finally:
        torch.set_rng_state(generator_state)
    model.generation_config = GenerationConfig(
        bos_token_id=ids.get(traits.bos or ""),
        eos_token_id=[ids[stop] for stop in traits.stops],
        pad_token_id=ids.get(traits.pad or ""),
    )
    model.save_pretrained(folder)
    return folder


def _config(traits: _Family, ids: dict[str, int]) -> Any:
    return traits.config(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=traits.tied,
        bos_token_id=ids.get(traits.bos or ""),
        eos_token_id=ids[traits.eos],
        pad_token_id=ids.get(traits.pad or ""),
        **traits.more,
    )


def _tokenizer(family: str, traits: _Family) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(traits.specials),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(_SENTENCES, trainer)
    if traits.bos is not None:
        backend.post_processor = processors.TemplateProcessing(
            single=f"{traits.bos} $A",
            pair=f"{traits.bos} $A {traits.bos} $B",
            special_tokens=[(traits.bos, backend.token_to_id(traits.bos))],
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token=traits.bos or ("<s>" if "<s>" in traits.specials else None),
        eos_token=traits.eos,
        pad_token=traits.pad,
        unk_token="<unk>" if "<unk>" in traits.specials else None,
        model_max_length=MAX_POSITIONS,
        chat_template=(_TEMPLATES / f"{family}.jinja").read_text(),
    )
