"""The load-back proof: what was exported, loaded afresh, answers as the model that was trained.

Users lose most at the hand-off: a wrong scale, a template that differs, an adapter saved without its shards. Each of
them changes tokens or their probabilities, so a run does not succeed before its export has answered a few held-out
prompts like the live model, token by token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from fettle_trainer.errors import IncompleteError
from fettle_trainer.export.references import Reference, References, record_references

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fettle_trainer.train.memory import Precision

# Largest difference of a token's log-probability. The same computation is done twice, so an adapter's tolerance is for
# the kernels alone; merging rounds every weight once more.
TOLERANCES: Final[dict[Literal["same", "merged"], dict[Precision, float]]] = {
    "same": {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.05},
    "merged": {"fp32": 5e-3, "bf16": 0.5, "fp16": 0.1},
}


def prove(model: Any, references: References, tolerance: float, tokenizer: PreTrainedTokenizerBase) -> float:
    """Return the largest difference found; raise IncompleteError where it is more than the tolerance.

    Tokens must be equal. Where the live model itself hesitated between two tokens, within the tolerance, either is
    right, and what follows is no longer comparable.
    """
    largest = 0.0
    for number, expected in enumerate(references.answers, start=1):
        found = record_references(model, [expected.prompt], len(expected.tokens)).answers[0]
        place, difference = _first_difference(expected, found, tolerance)
        if place is not None:
            raise _failed(number, place, expected, found, tokenizer)
        largest = max(largest, difference)
    return largest


def _first_difference(expected: Reference, found: Reference, tolerance: float) -> tuple[int | None, float]:
    """Return where the answers part, and the largest difference up to there."""
    largest = 0.0
    for place, (token, other) in enumerate(zip(expected.tokens, found.tokens, strict=True)):
        if token != other:
            return (None if expected.margins[place] <= tolerance else place), largest
        difference = abs(expected.log_probs[place] - found.log_probs[place])
        # Written so that NaN, which is less than nothing, fails too.
        if not difference <= tolerance:
            return place, difference
        largest = max(largest, difference)
    return None, largest


def _failed(
    number: int, place: int, expected: Reference, found: Reference, tokenizer: PreTrainedTokenizerBase
) -> IncompleteError:
    before, after = (
        f"{tokenizer.decode([answer.tokens[place]])!r} (log-probability {answer.log_probs[place]:.4f})"
        for answer in (expected, found)
    )
    return IncompleteError(
        "ExportNotProven",
        f"The export does not answer as the trained model: on held-out prompt {number}, token {place + 1} was {before} "
        f"in training and is {after} from the exported files. Nothing was released.",
        "output.exports",
    )
