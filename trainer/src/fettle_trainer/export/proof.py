"""The load-back proof: what was exported, loaded afresh, answers as the model that was trained.

Users lose most at the hand-off: a wrong scale, a template that differs, an adapter saved without its shards. Each of
them changes tokens or their probabilities, so a run does not succeed before its export has answered a few held-out
prompts like the live model, token by token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from fettle_trainer.errors import IncompleteError
from fettle_trainer.export.references import judge_answer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fettle_trainer.export.references import Likelihoods, Reference, References
    from fettle_trainer.train.memory import Precision

# Largest difference of a token's log-probability. The same computation is done twice, so an adapter's tolerance is for
# the kernels alone; merging rounds every weight once more.
TOLERANCES: Final[dict[Literal["same", "rounded"], dict[Precision, float]]] = {
    "same": {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.05},
    "rounded": {"fp32": 5e-3, "bf16": 0.5, "fp16": 0.1},
}


def prove(model: Any, references: References, tolerance: float, tokenizer: PreTrainedTokenizerBase) -> float:
    """Return the largest difference found; raise IncompleteError where it is more than the tolerance.

    The model is shown each answer. If it would have said every token itself, it would have given the same answer
    alone. Where the trained model itself hesitated between two tokens, within the tolerance, either is right.
    """
    largest = 0.0
    for number, expected in enumerate(references.answers, start=1):
        found = judge_answer(model, expected.prompt, expected.tokens)
        for place in range(len(expected.tokens)):
            difference = abs(expected.log_probs[place] - found.log_probs[place])
            differs = found.margins[place] < 0 and expected.margins[place] > tolerance
            # Written so that NaN, which is neither more nor less, fails too.
            if differs or not difference <= tolerance:
                raise _failed((number, place), expected, found, tokenizer)
            largest = max(largest, difference)
    return largest


def _failed(
    where: tuple[int, int], expected: Reference, found: Likelihoods, tokenizer: PreTrainedTokenizerBase
) -> IncompleteError:
    number, place = where
    token, favourite = expected.tokens[place], found.favourites[place]
    instead = "" if token == favourite else f"; it would say {tokenizer.decode([favourite])!r} instead"
    return IncompleteError(
        "ExportNotProven",
        f"The export does not answer as the trained model: on held-out prompt {number}, token {place + 1} "
        f"{tokenizer.decode([token])!r} had the log-probability {expected.log_probs[place]:.4f} in training and has "
        f"{found.log_probs[place]:.4f} from the exported files{instead}. Nothing was released.",
        "output.exports",
    )
