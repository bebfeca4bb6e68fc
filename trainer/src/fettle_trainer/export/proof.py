"""The load-back proof: what was exported, loaded afresh, answers as the model that was trained.

Users lose most at the hand-off: a wrong scale, a template that differs, an adapter saved without its shards. Each of
them changes tokens or their probabilities, so a run does not succeed before its export has answered a few held-out
prompts like the live model, token by token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fettle_trainer.errors import IncompleteError
from fettle_trainer.export.references import judge_answer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fettle_trainer.config.adapter import Method
    from fettle_trainer.export.references import Likelihoods, Reference, References
    from fettle_trainer.train.memory import Precision

# The largest difference of a token's log-probability that is let pass. Measured on CPU with every family: adapters give
# equal bits, what is rounded at most 0.02 in bf16; models of real size have larger logits, and round more.
SAME: Final[dict[Precision, float]] = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.05}
MERGED: Final[dict[Precision, float]] = {"fp32": 5e-3, "bf16": 0.5, "fp16": 0.1}


def tolerance_of(method: Method, precision: Precision) -> float:
    """Return what may differ between the trained model and its export, loaded afresh.

    LoRA and DoRA are computed twice in the same way. Method full saves fp32 weights in less, and with QLoRA training
    keeps the norms in fp32, which serving does not: those are rounded like a merged model.
    """
    return (SAME if method in {"lora", "dora"} else MERGED)[precision]


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
