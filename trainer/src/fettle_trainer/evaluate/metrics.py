"""Which metrics fit which data, and from how many rows answers are generated."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from fettle_trainer.errors import WrongInputError

if TYPE_CHECKING:
    from fettle_trainer.config.dataset import RowFormat
    from fettle_trainer.config.run import EvaluationConfig, MetricName

LOWER_IS_BETTER: Final[frozenset[MetricName]] = frozenset({"loss", "perplexity"})
LIKELIHOODS: Final[tuple[MetricName, ...]] = ("loss", "perplexity", "token-accuracy")
ANSWERS: Final[tuple[MetricName, ...]] = ("exact-match", "f1", "bleu", "rouge-l")
LABELS: Final[tuple[MetricName, ...]] = ("accuracy", "macro-f1")

_SAMPLES: Final = 100
_DRAW: Final = 20
"""The seed: another one would draw other rows, and results would not compare."""
_MOST_ROWS: Final = 1000
"""More rows do not make the loss more certain in any way that would matter."""


def chosen_metrics(config: EvaluationConfig, row_format: RowFormat) -> tuple[MetricName, ...]:
    """Return what is measured: what is listed, or what fits the format."""
    if config.metrics:
        return config.metrics
    if row_format == "text":
        return LIKELIHOODS
    return LIKELIHOODS + (LABELS if row_format == "classification" else ANSWERS)


def check_metrics(config: EvaluationConfig, row_format: RowFormat, validation_rows: int) -> None:
    """Raise WrongInputError if a listed metric cannot be measured; before training, not after."""
    if validation_rows == 0 and (config.gates or config.metrics):
        raise _wrong(
            "evaluation needs validation rows, and the dataset has none. Give dataset.validation or "
            "dataset.validationSplit.",
            "evaluation",
        )
    for metric in config.metrics:
        if metric in LABELS and row_format != "classification":
            raise _wrong(f"{metric} needs labels, and the data's format is {row_format}. Use exact-match.")
        if metric in LABELS + ANSWERS and config.samples == 0:
            raise _wrong(f"{metric} needs generated answers, and evaluation.samples is 0.")
        if metric in ANSWERS and row_format == "text":
            raise _wrong(f"{metric} needs prompts and answers, and the data is plain text. Use perplexity.")


def sample_count(config: EvaluationConfig, row_format: RowFormat, prompts: int) -> int:
    """Return from how many rows answers are generated."""
    if row_format == "text":
        return 0
    return min(prompts, _SAMPLES if config.samples is None else config.samples)


def spread(count: int, wanted: int = _MOST_ROWS) -> list[int]:
    """Return at most so many row numbers, always the same ones.

    Drawn, not counted off: files are often sorted, or go round in some cycle of their own.
    """
    if count <= wanted:
        return list(range(count))
    return sorted(random.Random(_DRAW).sample(range(count), wanted))  # noqa: S311 - no secret


def _wrong(message: str, param: str = "evaluation.metrics") -> WrongInputError:
    return WrongInputError("EvaluationImpossible", message[0].upper() + message[1:], param)
