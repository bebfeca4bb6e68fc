"""What the live model answered and how sure it was: the yardstick for what is exported from it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

import torch

from fettle_trainer import strict_json
from fettle_trainer.atomic import write_atomically
from fettle_trainer.evaluate.greedy import GreedySettings, plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from fettle_trainer.text.prepared import Prepared

REFERENCES_NAME: Final = "references.json"
PROMPTS: Final = 4
NEW_TOKENS: Final = 16
_LONGEST_PROMPT: Final = 1024
"""Of a longer prompt its end is used: a proof needs no more, and its memory stays small."""


@dataclass(frozen=True)
class Reference:
    """One greedy answer."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    log_probs: tuple[float, ...]
    """Of each token, given all before it."""
    margins: tuple[float, ...]
    """By how much each token was ahead of the best other one."""


@dataclass(frozen=True)
class References:
    """The answers to a few held-out prompts."""

    answers: tuple[Reference, ...]

    def write(self, path: Path) -> None:
        """Write them for a process that is to come."""
        write_atomically(path, json.dumps([asdict(answer) for answer in self.answers]).encode())

    @classmethod
    def read(cls, path: Path) -> References:
        """Read what was written."""
        answers = strict_json.loads(path.read_bytes())
        return cls(
            tuple(Reference(**{name: tuple(value) for name, value in answer.items()}) for answer in answers)
        )


def proof_prompts(prepared: Prepared, count: int = PROMPTS) -> list[list[int]]:
    """Return the beginnings of held-out rows, or of trained ones where none are held out."""
    rows = prepared.validation if len(prepared.validation) else prepared.train
    prompts = [prompt.input_ids for prompt in _first(rows.prompts(), count) if prompt.input_ids]
    if not prompts:  # plain text has no prompts: the first half of a row takes their place
        halves = [rows.row(number).input_ids for number in range(min(len(rows), count))]
        prompts = [ids[: max(1, len(ids) // 2)].tolist() for ids in halves]
    return [prompt[-_LONGEST_PROMPT:] for prompt in prompts]


def record_references(
    model: Any, prompts: Sequence[Sequence[int]], new_tokens: int = NEW_TOKENS
) -> References:
    """Let the model answer; with split weights all ranks must call this together.

    One prompt at a time and no token that ends an answer: the numbers then depend on nothing but the weights.
    """
    settings = GreedySettings(stop_ids=(), pad_id=0, max_new_tokens=new_tokens)
    with plain(model, settings) as causal:
        return References(tuple(_answer(causal, prompt, new_tokens) for prompt in prompts))


@dataclass(frozen=True)
class Likelihoods:
    """What a model makes of an answer that it is shown."""

    log_probs: tuple[float, ...]
    margins: tuple[float, ...]
    """Negative where the model would have said something else."""
    favourites: tuple[int, ...]
    """What it would have said."""


def judge_answer(model: Any, prompt: Sequence[int], tokens: Sequence[int]) -> Likelihoods:
    """Return how likely a model finds each token of an answer, in one pass without a cache."""
    with plain(model, GreedySettings((), 0, 0)) as causal:
        return _judged(causal, prompt, tokens)


def _answer(causal: Any, prompt: Sequence[int], new_tokens: int) -> Reference:
    ids = torch.tensor([list(prompt)], device=causal.device)
    whole = causal.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=new_tokens,
        do_sample=False,
        use_cache=True,
    )
    tokens = whole[0, len(prompt) :].tolist()
    # Judged in the same way as the export will be, so that the way makes no difference.
    judged = _judged(causal, prompt, tokens)
    return Reference(tuple(prompt), tuple(tokens), judged.log_probs, judged.margins)


def _judged(causal: Any, prompt: Sequence[int], tokens: Sequence[int]) -> Likelihoods:
    ids = torch.tensor([[*prompt, *tokens]], device=causal.device)
    logits = causal(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits[0]
    log_probs = logits[len(prompt) - 1 : -1].float().log_softmax(-1)
    chosen = torch.tensor(list(tokens), device=log_probs.device)[:, None]
    said = log_probs.gather(1, chosen).squeeze(1)
    others = log_probs.scatter(1, chosen, -torch.inf).max(-1).values
    return Likelihoods(
        tuple(said.tolist()), tuple((said - others).tolist()), tuple(log_probs.argmax(-1).tolist())
    )


def _first(items: Iterable[Any], count: int) -> list[Any]:
    return [item for item, _ in zip(items, range(count), strict=False)]
