"""Metrics, gates, and which of them fit which data."""

from __future__ import annotations

from typing import Any

import pytest

from fettle_trainer.config.run import EvaluationConfig, Gate
from fettle_trainer.errors import WrongInputError
from fettle_trainer.evaluate.gates import judge, missed
from fettle_trainer.evaluate.metrics import check_metrics, chosen_metrics, sample_count, spread
from fettle_trainer.evaluate.scores import answer_score, label_score

REFERENCES = ["The cat sat on the mat today.", "Paris"]


@pytest.mark.parametrize(
    ("metric", "answers", "score"),
    [
        ("exact-match", REFERENCES, 1.0),
        ("exact-match", [" The cat sat on the mat today.\n", "paris"], 0.5),
        ("f1", ["cat sat on mat today", "PARIS!"], 1.0),  # without case, articles, punctuation
        ("f1", ["cat", "London"], 1 / 6),  # 2·1/(1+5), halved
        ("f1", ["", "Paris"], 0.5),
        ("bleu", REFERENCES, 100.0),
        ("bleu", ["zzz", "yyy"], 0.0),
        ("rouge-l", REFERENCES, 1.0),
        ("rouge-l", ["the mat today sat", "Paris"], (2 * 3 / (4 + 7) + 1) / 2),
    ],
)
def test_answers_are_scored_as_the_field_scores_them(metric: Any, answers: list[str], score: float) -> None:
    assert answer_score(metric, answers, REFERENCES) == pytest.approx(score)


def test_labels_are_scored_over_all_labels_and_what_is_none_is_wrong() -> None:
    expected = ["good", "good", "bad", "odd"]
    answers = ["good", " good ", "bad weather", "odd"]
    labels = ["bad", "good", "odd"]
    assert label_score("accuracy", answers, expected, labels) == 0.75
    assert label_score("macro-f1", answers, expected, labels) == pytest.approx((0 + 1 + 1) / 3)


def test_metrics_follow_the_format_unless_they_are_listed() -> None:
    auto = EvaluationConfig()
    likelihoods = ("loss", "perplexity", "token-accuracy")
    assert chosen_metrics(auto, "text") == likelihoods
    assert chosen_metrics(auto, "classification") == (*likelihoods, "accuracy", "macro-f1")
    assert chosen_metrics(auto, "chat") == (*likelihoods, "exact-match", "f1", "bleu", "rouge-l")
    assert chosen_metrics(EvaluationConfig(metrics=("bleu",)), "chat") == ("bleu",)


@pytest.mark.parametrize(
    ("config", "row_format", "rows", "problem"),
    [
        ({"metrics": ["accuracy"]}, "chat", 5, "Accuracy needs labels"),
        ({"metrics": ["f1"], "samples": 0}, "chat", 5, "evaluation.samples is 0"),
        ({"metrics": ["bleu"]}, "text", 5, "plain text"),
        ({"metrics": ["loss"]}, "chat", 0, "needs validation rows"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_training(
    config: dict[str, Any], row_format: Any, rows: int, problem: str
) -> None:
    with pytest.raises(WrongInputError, match=problem):
        check_metrics(EvaluationConfig.model_validate(config), row_format, rows)


def test_what_can_be_measured_is_not_refused() -> None:
    check_metrics(EvaluationConfig(metrics=("accuracy",)), "classification", 5)
    check_metrics(EvaluationConfig(), "chat", 0)


def test_samples_are_the_same_each_time_and_from_everywhere() -> None:
    assert sample_count(EvaluationConfig(), "chat", 5000) == 100
    assert sample_count(EvaluationConfig(samples=7), "chat", 5) == 5
    assert sample_count(EvaluationConfig(samples=7), "text", 5) == 0
    drawn = spread(1000, 100)
    assert drawn == spread(1000, 100) == sorted(set(drawn))
    assert len(drawn) == 100
    assert all(any(low <= number < low + 200 for number in drawn) for low in range(0, 1000, 200))
    # A file that goes round in a cycle is not met at one point of it only.
    assert all({number % cycle for number in drawn} == set(range(cycle)) for cycle in (2, 5, 10))
    assert spread(3, 4) == [0, 1, 2]


@pytest.mark.parametrize(
    ("gate", "value", "passed"),
    [
        ({"metric": "bleu", "min": 30.0}, 30.0, True),
        ({"metric": "bleu", "min": 30.1}, 30.0, False),
        ({"metric": "loss", "max": 1.5}, 1.5, True),
        ({"metric": "loss", "max": 1.4}, 1.5, False),
        ({"metric": "bleu", "minGainOverBase": 10.0}, 10.0, True),
        ({"metric": "bleu", "minGainOverBase": 10.5}, 10.0, False),
        ({"metric": "loss", "minGainOverBase": 0.5}, 0.5, True),  # lower is better
        ({"metric": "loss", "minGainOverBase": 0.6}, 0.5, False),
    ],
)
def test_a_gate_is_judged_by_its_bound(gate: dict[str, Any], value: float, passed: bool) -> None:
    tuned, base = {"bleu": 30.0, "loss": 1.5}, {"bleu": 20.0, "loss": 2.0}
    [result] = judge([Gate.model_validate(gate)], tuned, base)  # type: ignore[arg-type]
    assert (result.value, result.passed) == (pytest.approx(value), passed)
    assert (result.metric in missed([result])) is not passed
