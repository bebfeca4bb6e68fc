"""How good generated answers are, by the libraries that the field measures with.

BLEU is on its usual scale from 0 to 100, everything else between 0 and 1.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fettle_trainer.config.run import MetricName

_ARTICLES: Final = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION: Final = str.maketrans("", "", string.punctuation)


def answer_score(metric: MetricName, answers: Sequence[str], references: Sequence[str]) -> float:
    """Return one metric of generated answers against what the data answers."""
    return _SCORES[metric](answers, references) if answers else 0.0


def label_score(
    metric: MetricName, answers: Sequence[str], expected: Sequence[str], labels: Sequence[str]
) -> float:
    """Return one metric of generated labels; an answer that is no label is wrong, whatever it begins with."""
    # Imported by the runs that need it only, here and below: scipy and scikit-learn take a second.
    from sklearn.metrics import accuracy_score, f1_score  # noqa: PLC0415

    predicted = [answer.strip() for answer in answers]
    if metric == "accuracy":
        return float(accuracy_score(expected, predicted))
    return float(f1_score(expected, predicted, labels=list(labels), average="macro", zero_division=0.0))


def exact_match(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return the share of answers that are the reference, blank space around them apart."""
    pairs = zip(answers, references, strict=True)
    return sum(answer.strip() == reference.strip() for answer, reference in pairs) / len(answers)


def token_f1(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return the mean F1 of the words, as SQuAD defines it: without case, punctuation and articles."""
    return sum(map(_word_f1, answers, references)) / len(answers)


def bleu(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return the corpus' BLEU."""
    from sacrebleu.metrics import BLEU  # noqa: PLC0415

    return float(BLEU().corpus_score(list(answers), [list(references)]).score)


def rouge_l(answers: Sequence[str], references: Sequence[str]) -> float:
    """Return the mean F-measure of the longest common subsequence."""
    from rouge_score.rouge_scorer import RougeScorer  # noqa: PLC0415

    scorer = RougeScorer(["rougeL"])
    pairs = zip(references, answers, strict=True)
    return sum(float(scorer.score(*pair)["rougeL"].fmeasure) for pair in pairs) / len(answers)


_SCORES: Final[dict[MetricName, Callable[[Sequence[str], Sequence[str]], float]]] = {
    "exact-match": exact_match,
    "f1": token_f1,
    "bleu": bleu,
    "rouge-l": rouge_l,
}


def _word_f1(answer: str, reference: str) -> float:
    found, wanted = _words(answer), _words(reference)
    if not found or not wanted:
        return float(found == wanted)
    common = sum((Counter(found) & Counter(wanted)).values())
    return 2 * common / (len(found) + len(wanted))


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split()
