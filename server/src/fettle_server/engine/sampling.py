"""The choice of the next token of each row, by the row's own settings and its own chance.

Whatever depends on chance comes from one random number per row and token, so that a row with a seed gives the same
answer alone and beside others. Rows are chosen for together, since each tensor operation has its price.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Final, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fettle_server.engine.types import Sampling

_GREEDY_BELOW: Final = 1e-5
"""A temperature below this one would only overflow: the most likely token takes it all."""
_LIKELY: Final = 1024
"""So many tokens nearly always hold the share that top_p asks for; sorting a whole vocabulary is slow."""


@dataclass(slots=True)
class Picker:
    """What one row's choice depends on, its own past included."""

    sampling: Sampling
    random: Random
    said: Counter[int] = field(default_factory=Counter)
    """How often each token stands in the answer."""

    @classmethod
    def of(cls, sampling: Sampling) -> Picker:
        """Begin an answer."""
        return cls(sampling, Random(sampling.seed))  # noqa: S311 - chance, not secrets

    @property
    def is_greedy(self) -> bool:
        """Whether chance has no say."""
        return self.sampling.temperature < _GREEDY_BELOW

    @property
    def has_penalties(self) -> bool:
        """Whether what was said makes itself less likely."""
        return bool(self.said and (self.sampling.presence_penalty or self.sampling.frequency_penalty))


class Choice(NamedTuple):
    """The next token of a row."""

    token: int
    log_prob: float | None
    """In the model's own distribution, before temperature and penalties, as OpenAI gives it."""
    alternatives: tuple[tuple[int, float], ...]


def choose(logits: torch.Tensor, pickers: Sequence[Picker]) -> list[Choice | None]:
    """Return each row's next token; None where its logits are no numbers."""
    logits = logits.float()
    sound = logits.amax(-1).isfinite().tolist()
    scores = _with_penalties(logits, pickers)
    tokens = scores.argmax(-1).tolist()
    drawn = [row for row, picker in enumerate(pickers) if sound[row] and not picker.is_greedy]
    if drawn:
        for row, token in zip(drawn, _draw(scores[drawn], [pickers[row] for row in drawn]), strict=True):
            tokens[row] = token
    known = _log_probs(logits, pickers, tokens)
    choices: list[Choice | None] = []
    for row, picker in enumerate(pickers):
        picker.said[tokens[row]] += 1
        choices.append(Choice(tokens[row], *known.get(row, (None, ()))) if sound[row] else None)
    return choices


def _with_penalties(logits: torch.Tensor, pickers: Sequence[Picker]) -> torch.Tensor:
    if not any(picker.has_penalties for picker in pickers):
        return logits
    scores = logits.clone()
    for row, picker in enumerate(pickers):
        if picker.has_penalties:
            tokens = torch.tensor(list(picker.said), device=scores.device)
            counts = torch.tensor(list(picker.said.values()), device=scores.device, dtype=scores.dtype)
            sampling = picker.sampling
            scores[row, tokens] -= sampling.presence_penalty + sampling.frequency_penalty * counts
    return scores


def _draw(scores: torch.Tensor, pickers: Sequence[Picker]) -> list[int]:
    device = scores.device
    temperatures = torch.tensor([picker.sampling.temperature for picker in pickers], device=device)
    # In double precision a sum over a large vocabulary loses no unlikely token.
    shares = (scores / temperatures[:, None]).softmax(-1).double()
    chance = torch.tensor([picker.random.random() for picker in pickers], device=device, dtype=torch.double)
    tokens = _first_beyond(shares, chance)
    cut = [row for row, picker in enumerate(pickers) if picker.sampling.top_p < 1]
    if cut:
        top_p = torch.tensor([pickers[row].sampling.top_p for row in cut], device=device, dtype=torch.double)
        tokens[cut] = _draw_from_top(shares[cut], top_p, chance[cut])
    found: list[int] = tokens.tolist()
    return found


def _draw_from_top(shares: torch.Tensor, top_p: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    """Draw from the fewest most likely tokens that together hold the share top_p."""
    likely, tokens = shares.topk(min(_LIKELY, shares.shape[-1]))
    if bool((likely.sum(-1) < top_p).any()):
        likely, tokens = shares.sort(descending=True)
    before = likely.cumsum(-1) - likely
    # The most likely token always stays, also for a top_p of 0.
    before[:, 0] = -1
    places = _first_beyond(likely.where(before < top_p[:, None], 0), chance)
    return tokens.gather(-1, places[:, None]).squeeze(-1)


def _first_beyond(shares: torch.Tensor, chance: torch.Tensor) -> torch.Tensor:
    """Return where the running sum of each row first exceeds that part of its total."""
    sums = shares.cumsum(-1)
    places = torch.searchsorted(sums, chance[:, None] * sums[:, -1:], right=True).squeeze(-1)
    return places.clamp(max=shares.shape[-1] - 1)


def _log_probs(
    logits: torch.Tensor, pickers: Sequence[Picker], tokens: Sequence[int]
) -> dict[int, tuple[float, tuple[tuple[int, float], ...]]]:
    asked = [row for row, picker in enumerate(pickers) if picker.sampling.logprobs is not None]
    if not asked:
        return {}
    log_probs = logits[asked].log_softmax(-1)
    chosen = torch.tensor([tokens[row] for row in asked], device=logits.device)
    own = log_probs.gather(-1, chosen[:, None]).squeeze(-1).tolist()
    most = max(pickers[row].sampling.logprobs or 0 for row in asked)
    values, ids = log_probs.topk(min(most, log_probs.shape[-1]))
    found = {}
    for place, (row, value, best) in enumerate(zip(asked, values.tolist(), ids.tolist(), strict=True)):
        wanted = pickers[row].sampling.logprobs or 0
        found[row] = (own[place], tuple(zip(best[:wanted], value[:wanted], strict=True)))
    return found
