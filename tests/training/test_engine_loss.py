"""The loss over the trained tokens is transformers' own loss, whatever way it is computed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from fettle_trainer.train import loss as loss_module
from fettle_trainer.train.collate import IGNORED, Collator
from fettle_trainer.train.loss import teach_trained_tokens
from tiny_models import FAMILIES
from token_rows import row


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")


def batch_of(*lengths: int, packed: bool = False) -> dict[str, torch.Tensor]:
    rows = [[(row(length, seed=length), 1.0)] for length in lengths]
    entries = [[one for entry in rows for one in entry]] if packed else rows
    return Collator(0, packed=packed)(entries)


def own_loss(model: Any, *lengths: int) -> torch.Tensor:
    """The mean over all trained tokens as transformers computes it, one row at a time."""
    total, count = torch.zeros(()), 0
    for length in lengths:
        one = row(length, seed=length)
        labels = torch.from_numpy(one.labels.astype(np.int64))[None]
        trained = int((labels[:, 1:] != IGNORED).sum())
        ids = torch.from_numpy(one.input_ids.astype(np.int64))[None]
        total = total + model(input_ids=ids, labels=labels).loss * trained
        count += trained
    return total / count


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("packed", [False, True], ids=["padded", "packed"])
def test_loss_and_gradients_equal_those_of_each_row_alone(
    family: str, packed: bool, tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths = (40, 13, 27)
    expected_model, model = load(tiny(family)), load(tiny(family))
    expected = own_loss(expected_model, *lengths)
    expected.backward()
    monkeypatch.setattr(loss_module, "_CHUNK_BYTES", 4 * model.config.vocab_size * 10)  # several chunks
    teach_trained_tokens(model)
    found = model(**batch_of(*lengths, packed=packed))
    found.loss.backward()

    assert found.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for (name, wanted), (_, got) in zip(
        expected_model.named_parameters(), model.named_parameters(), strict=True
    ):
        torch.testing.assert_close(got.grad, wanted.grad, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pack_leaks_nothing_from_one_row_into_the_next(family: str, tiny: Callable[[str], Path]) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny(family), dtype=torch.float32).eval()
    pack = batch_of(40, 13, 27, packed=True)
    with torch.no_grad():
        together = model(
            input_ids=pack["input_ids"], position_ids=pack["position_ids"], use_cache=False
        ).logits[0]
        alone = [
            model(
                input_ids=torch.from_numpy(row(length, seed=length).input_ids.astype(np.int64))[None]
            ).logits[0]
            for length in (40, 13, 27)
        ]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)


def test_a_model_of_an_unknown_type_has_the_same_loss_by_all_its_logits(
    tiny: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, known = load(tiny("llama")), load(tiny("llama"))
    teach_trained_tokens(known)
    monkeypatch.setattr(loss_module, "PLAIN_HEADS", frozenset())
    teach_trained_tokens(model)
    batch = batch_of(40, 13, 27)
    assert model(**batch).loss.item() == pytest.approx(known(**batch).loss.item(), rel=1e-6)


def test_an_empty_micro_batch_gives_every_weight_a_gradient_of_nothing(tiny: Callable[[str], Path]) -> None:
    model = load(tiny("llama"))
    teach_trained_tokens(model)
    outputs = model(**Collator(0, packed=False)([[]]), divisor=torch.tensor(5.0))
    outputs.loss.backward()
    assert outputs.loss.item() == 0
    assert int(outputs.total) == 0
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in model.parameters())


def test_the_first_token_of_a_packed_row_is_never_the_target_of_the_row_before() -> None:
    first, second = row(6, seed=1, trained_from=0), row(5, seed=2, trained_from=0)
    batch = Collator(0, packed=True)([[(first, 1.0), (second, 1.0)]])
    assert batch["targets"][0, 5].item() == IGNORED
    assert batch["position_ids"][0].tolist() == [*range(6), *range(5)]


def test_a_taught_model_generates_as_before(tiny: Callable[[str], Path]) -> None:
    model, plain = load(tiny("llama")).eval(), load(tiny("llama")).eval()
    teach_trained_tokens(model)
    ids = torch.tensor([[0, 0, 20, 30, 40], [11, 12, 13, 14, 15]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    answers = [
        one.generate(input_ids=ids, attention_mask=mask, max_new_tokens=8, do_sample=False)
        for one in (model, plain)
    ]
    assert torch.equal(*answers)
