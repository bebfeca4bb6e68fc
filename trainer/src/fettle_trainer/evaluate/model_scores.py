"""One model, measured: the metrics, and the answers that they came from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fettle_trainer.evaluate.greedy import GreedySettings, generate, padding_id, stop_ids
from fettle_trainer.evaluate.likelihood import Rows, likelihood
from fettle_trainer.evaluate.metrics import (
    ANSWERS,
    LABELS,
    LIKELIHOODS,
    chosen_metrics,
    sample_count,
    spread,
)
from fettle_trainer.evaluate.scores import answer_score, label_score
from fettle_trainer.text.answers import without_thought

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transformers import PreTrainedTokenizerBase

    from fettle_trainer.config.dataset import RowFormat
    from fettle_trainer.config.run import EvaluationConfig, MetricName
    from fettle_trainer.text.encode import Prompt
    from fettle_trainer.text.prepared import Prepared

_LONGEST_ANSWER: Final = 512
_ROOM: Final = 1.5
"""An answer may be longer than the longest reference by this factor: rambling should be seen, not paid for."""
_SHORTEST_LIMIT: Final = 16
_WORST_EXPONENT: Final = 700.0
"""e to this is just a float; a model that is that wrong has no perplexity worth naming."""


@dataclass(frozen=True)
class HeldOut:
    """What a model is measured on: the same for every model."""

    tokenizer: PreTrainedTokenizerBase
    rows: Rows
    numbers: tuple[int, ...]
    """The rows that the likelihood comes from."""
    prompts: tuple[Prompt, ...]
    """The prompts that answers are generated from."""
    row_format: RowFormat
    labels: tuple[str, ...]
    metrics: tuple[MetricName, ...]
    last_trained: tuple[int, ...]
    """The last trained tokens of the rows: what the data ends its answers with."""


@dataclass(frozen=True)
class ModelScores:
    """What one model achieved."""

    metrics: dict[MetricName, float]
    answers: tuple[str, ...]
    """One per prompt."""


def held_out(prepared: Prepared, tokenizer: PreTrainedTokenizerBase, config: EvaluationConfig) -> HeldOut:
    """Choose what is measured; the same rows and prompts for the same data, whatever the model."""
    rows = prepared.validation
    numbers = tuple(spread(len(rows)))
    prompts = [prompt for prompt in rows.prompts() if prompt.input_ids]
    wanted = sample_count(config, prepared.row_format, len(prompts))
    return HeldOut(
        tokenizer=tokenizer,
        rows=rows,
        numbers=numbers,
        prompts=tuple(prompts[number] for number in spread(len(prompts), wanted)) if wanted else (),
        row_format=prepared.row_format,
        labels=prepared.labels,
        metrics=chosen_metrics(config, prepared.row_format),
        last_trained=tuple(_last_trained(rows, number) for number in numbers[:100]),
    )


def evaluate_model(model: Any, data: HeldOut, check: Callable[[], None] = lambda: None) -> ModelScores:
    """Measure a model; `check` is called between batches and tokens and may raise to stop."""
    scores: dict[MetricName, float] = {}
    if data.numbers:
        measured = likelihood(model, data.rows, data.numbers, padding_id(data.tokenizer), check)
        scores |= {
            "loss": measured.loss,
            "perplexity": math.exp(min(measured.loss, _WORST_EXPONENT)),
            "token-accuracy": measured.token_accuracy,
        }
    answers = _answers(model, data, check)
    # How a reasoning model came to its answer is not what is measured.
    said = [without_thought(answer) for answer in answers]
    references = [without_thought(prompt.reference) for prompt in data.prompts]
    for metric in data.metrics:
        if metric in ANSWERS:
            scores[metric] = answer_score(metric, said, references)
        elif metric in LABELS:
            expected = [prompt.label or "" for prompt in data.prompts]
            scores[metric] = label_score(metric, said, expected, data.labels) if said else 0.0
    ordered = {
        metric: scores[metric] for metric in dict.fromkeys((*LIKELIHOODS, *data.metrics)) if metric in scores
    }
    return ModelScores(ordered, tuple(answers))


def _answers(model: Any, data: HeldOut, check: Callable[[], None]) -> list[str]:
    if not data.prompts:
        return []
    tokenizer = data.tokenizer
    settings = GreedySettings(
        stop_ids=stop_ids(model, tokenizer, data.last_trained),
        pad_id=padding_id(tokenizer),
        max_new_tokens=_answer_limit(tokenizer, data.prompts),
    )
    tokens = generate(model, [prompt.input_ids for prompt in data.prompts], settings, check)
    return [tokenizer.decode(answer, skip_special_tokens=True) for answer in tokens]


def _answer_limit(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> int:
    references = [prompt.reference for prompt in prompts]
    longest = max(len(ids) for ids in tokenizer(references, add_special_tokens=False)["input_ids"])
    return min(max(math.ceil(_ROOM * longest), _SHORTEST_LIMIT), _LONGEST_ANSWER)


def _last_trained(rows: Rows, number: int) -> int:
    labels = rows.row(number).labels
    trained = labels[labels >= 0]
    return int(trained[-1]) if len(trained) else -1
