"""The tuned model beside its base, on the same rows and prompts."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fettle_trainer.atomic import write_atomically
from fettle_trainer.config.evaluation_report import EVALUATION_NAME, EvaluationReport
from fettle_trainer.evaluate.gates import judge
from fettle_trainer.evaluate.model_scores import HeldOut, ModelScores, evaluate_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from fettle_trainer.config.run import Gate

SAMPLES_NAME: Final = "samples.jsonl"


@dataclass(frozen=True)
class Comparison:
    """What was measured, and the answers to look at."""

    report: EvaluationReport
    tuned: ModelScores
    base: ModelScores | None

    def write(self, folder: Path, data: HeldOut) -> None:
        """Write evaluation.json and samples.jsonl."""
        text = self.report.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n"
        write_atomically(folder / EVALUATION_NAME, text.encode())
        lines = [json.dumps(sample, ensure_ascii=False) + "\n" for sample in self._samples(data)]
        write_atomically(folder / SAMPLES_NAME, "".join(lines).encode())

    def _samples(self, data: HeldOut) -> Iterator[dict[str, str]]:
        for number, prompt in enumerate(data.prompts):
            sample = {"prompt": data.tokenizer.decode(prompt.input_ids), "reference": prompt.reference}
            if self.base is not None:
                sample["base"] = self.base.answers[number]
            yield {**sample, "tuned": self.tuned.answers[number]}


def compare(
    tuned: Any,
    base: Callable[[], AbstractContextManager[Any]] | None,
    data: HeldOut,
    gates: Sequence[Gate],
    check: Callable[[], None] = lambda: None,
) -> Comparison:
    """Measure both, or the tuned one alone; `base` lends its model as long as it is measured."""
    tuned_scores = evaluate_model(tuned, data, check)
    base_scores = None
    if base is not None:
        with base() as model:
            base_scores = evaluate_model(model, data, check)
    report = EvaluationReport(
        row_format=data.row_format,
        rows=len(data.numbers),
        samples=len(data.prompts),
        tuned=tuned_scores.metrics,
        base=base_scores.metrics if base_scores else None,
        gates=judge(gates, tuned_scores.metrics, base_scores.metrics if base_scores else None),
    )
    return Comparison(report, tuned_scores, base_scores)


@contextmanager
def without_adapter(model: Any) -> Iterator[Any]:
    """Lend an adapted model as its base: the same weights in memory, the adapter switched off."""
    with model.disable_adapter():
        yield model
