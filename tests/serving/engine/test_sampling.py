"""The choice of tokens: greedy, drawn, cut, penalised, and what is told about its likelihood."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from fettle_server.engine.sampling import Choice, Picker, choose
from fettle_server.engine.types import Sampling

SHARES = (0.5, 0.3, 0.15, 0.05)
LOGITS = torch.tensor(SHARES).log()


def drawn(draws: int, **sampling: float) -> Counter[int]:
    """Let one row choose many times, its past forgotten each time."""
    picker = Picker.of(Sampling(1, seed=11, **sampling))  # type: ignore[arg-type]
    found: Counter[int] = Counter()
    for _ in range(draws):
        picker.said.clear()
        choice = choose(LOGITS[None], [picker])[0]
        assert choice is not None
        found[choice.token] += 1
    return found


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    found = drawn(2000)
    for token, share in enumerate(SHARES):
        assert abs(found[token] / 2000 - share) < 0.04


@pytest.mark.parametrize(("top_p", "left"), [(0.0, {0}), (0.4, {0}), (0.6, {0, 1}), (0.81, {0, 1, 2})])
def test_top_p_leaves_the_fewest_tokens_that_hold_the_share(top_p: float, left: set[int]) -> None:
    assert set(drawn(300, top_p=top_p)) == left


def test_a_flat_distribution_is_cut_beyond_the_likely_tokens_too() -> None:
    logits = torch.zeros(1, 4096)
    pickers = [Picker.of(Sampling(1, top_p=0.9, seed=seed)) for seed in range(64)]
    tokens = [choice.token for choice in choose(logits.expand(64, -1), pickers) if choice]
    assert len(set(tokens)) > 50


def test_rows_do_not_disturb_one_another() -> None:
    logits = torch.randn(5, 300, generator=torch.Generator().manual_seed(1))
    settings = [
        Sampling(9, temperature=0),
        Sampling(9, seed=1),
        Sampling(9, top_p=0.5, seed=2, logprobs=3),
        Sampling(9, temperature=2, seed=3, presence_penalty=2),
        Sampling(9, temperature=1e-9),
    ]

    def three(pickers: list[Picker], rows: torch.Tensor) -> list[list[Choice | None]]:
        return [choose(rows, pickers) for _ in range(3)]

    together = three([Picker.of(sampling) for sampling in settings], logits)
    for row, sampling in enumerate(settings):
        single = three([Picker.of(sampling)], logits[row : row + 1])
        assert [step[row] for step in together] == [step[0] for step in single]
    assert together[0][4] == Choice(int(logits[4].argmax()), None, ())


def test_penalties_count_what_the_answer_has_said() -> None:
    logits = torch.tensor([[2.0, 1.5, 0.0]])
    presence = Picker.of(Sampling(9, temperature=0, presence_penalty=1.0))
    frequency = Picker.of(Sampling(9, temperature=0, frequency_penalty=0.3))
    said = [
        [choice.token for choice in choose(logits.expand(2, -1), [presence, frequency]) if choice]
        for _ in range(6)
    ]
    assert [first for first, _ in said] == [0, 1, 0, 0, 0, 0]
    assert [second for _, second in said] == [0, 0, 1, 0, 1, 0]


def test_log_probabilities_are_the_models_own_whatever_changes_the_choice() -> None:
    sampling = Sampling(9, temperature=0.3, top_p=0.1, seed=1, logprobs=2, frequency_penalty=1.0)
    choice = choose(LOGITS[None] + 3, [Picker.of(sampling)])[0]
    assert choice is not None
    assert choice.log_prob == pytest.approx(math.log(SHARES[choice.token]))
    assert [token for token, _ in choice.alternatives] == [0, 1]
    assert [log_prob for _, log_prob in choice.alternatives] == pytest.approx([math.log(0.5), math.log(0.3)])
    only_chosen = choose(LOGITS[None], [Picker.of(Sampling(9, temperature=0, logprobs=0))])[0]
    assert only_chosen is not None
    assert only_chosen.log_prob == pytest.approx(math.log(0.5))
    assert not only_chosen.alternatives


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_row_without_numbers_has_no_choice_and_the_others_have_theirs(bad: float) -> None:
    logits = torch.zeros(3, 8)
    logits[1, 3] = bad
    logits[:, 5] = 1
    pickers = [Picker.of(Sampling(9, temperature=temperature, seed=1)) for temperature in (0, 1, 0)]
    assert choose(logits, pickers) == [Choice(5, None, ()), None, Choice(5, None, ())]
