"""What is chosen for GPUs, as far as it can be told without one."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fettle_trainer.evaluate.greedy import in_16_bits
from fettle_trainer.train import model
from fettle_trainer.train.memory import Load, ModelShape, Precision, estimate


@pytest.mark.parametrize(
    ("family", "precision", "installed", "attention"),
    [
        ("llama", "bf16", True, "flash_attention_2"),
        ("llama", "fp16", True, "flash_attention_2"),
        ("llama", "fp32", True, "sdpa"),  # flash-attention refuses 32 bits
        ("llama", "bf16", False, "sdpa"),
        ("gemma2", "bf16", True, "eager"),
    ],
)
def test_the_attention_fits_the_family_and_the_precision(
    family: str, precision: Precision, installed: bool, attention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "has_varlen_attention", lambda: installed)
    assert model.attention_for(family, precision) == attention


@pytest.mark.parametrize(
    ("attention", "dtype", "helped"),
    [
        ("flash_attention_2", torch.float32, True),
        ("flash_attention_2", torch.bfloat16, False),
        ("sdpa", torch.float32, False),
    ],
)
def test_fully_trained_weights_meet_flash_attention_in_16_bits(
    attention: str, dtype: torch.dtype, helped: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    config = SimpleNamespace(_attn_implementation=attention)
    causal = SimpleNamespace(config=config, dtype=dtype, device=torch.device("cpu"))
    with in_16_bits(causal):
        assert torch.is_autocast_enabled("cpu") == helped


def test_the_embeddings_of_a_quantised_base_are_counted_with_32_bits() -> None:
    shape = ModelShape(8_000_000_000, layers=32, hidden=4096, vocabulary=128_256, trainable=40_000_000)
    load = Load(method="qlora", precision="bf16", micro_batch_size=1, length=512)
    grown = replace(shape, parameters=shape.parameters + 4096, vocabulary=shape.vocabulary + 1)
    assert estimate(grown, load).weights - estimate(shape, load).weights == 4 * 4096
