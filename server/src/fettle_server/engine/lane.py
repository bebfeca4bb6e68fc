"""Rows that share one cache and one forward: all that can be mixed, or those of one adapter that cannot.

Slots 0 … of the cache hold first the rows that are answering, then those whose prompts are still being read, without
a hole, so that each forward works on neighbouring slots and copies nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle_server.engine.batch_model import BatchModel, NewTokens

if TYPE_CHECKING:
    import torch

    from fettle_server.engine.row import Row


class Lane:
    """The rows of one batch and their cache."""

    def __init__(self, model: BatchModel) -> None:
        self.rows: list[Row] = []
        self._model = model
        self._cache = model.new_cache()

    @property
    def cells(self) -> int:
        """How many tokens the cache has to hold: slots are as long as the longest row."""
        return self.cells_with(0, 0)

    def cells_with(self, rows: int, tokens: int) -> int:
        """Return the cells with so many more rows, of which the longest has so many tokens."""
        longest = max((len(row.tokens) for row in self.rows), default=0)
        return (len(self.rows) + rows) * max(longest, tokens)

    @property
    def answering(self) -> int:
        """How many rows are answering; they lie in the first slots."""
        return sum(row.is_answering for row in self.rows)

    def add(self, row: Row) -> None:
        """Give a row the next slot."""
        self.rows.append(row)

    def next_prompts(self, most_tokens: int) -> list[tuple[Row, list[int]]]:
        """Return the rows whose prompts are read next and what is read of each; at most so many cells together."""
        chosen: list[tuple[Row, list[int]]] = []
        width = 0
        for row in self.rows[self.answering :]:
            missing = row.tokens[row.cached :][:most_tokens]
            width = max(width, len(missing))
            if chosen and (len(chosen) + 1) * width > most_tokens:
                break
            chosen.append((row, missing))
        return chosen

    def reserve(self, most_cells: int) -> None:
        """Make room in the cache for every row's tokens."""
        longest = max(len(row.tokens) for row in self.rows)
        slots = 1 << (len(self.rows) - 1).bit_length()
        if slots * longest > most_cells:
            slots = len(self.rows)
        self._cache.reserve(slots, longest, most_cells)

    def forward(self, first: int, rows: list[tuple[Row, list[int]]]) -> torch.Tensor:
        """Return the logits after new tokens of the rows in the slots from `first` on."""
        new = [NewTokens(tokens, row.cached, row.request.voice.adapter) for row, tokens in rows]
        return self._model.logits(self._cache, first, new)

    def wipe(self, row: Row) -> None:
        """Forget what went wrong in a row, before another one gets its slot."""
        self._cache.wipe(self.rows.index(row))

    def leave(self, gone: set[Row]) -> None:
        """Free the slots of rows, and bring the others into order: answering ones first, no hole."""
        slots = {row: slot for slot, row in enumerate(self.rows)}
        staying = [row for row in self.rows if row not in gone]
        answering = [row for row in staying if row.is_answering]
        reading = [row for row in staying if not row.is_answering]
        ordered = _with_few_moves(answering, slots) + sorted(reading, key=lambda row: row.request.number)
        self._cache.rearrange([slots[row] for row in ordered])
        self.rows = ordered
        if not ordered:
            self._cache.release()


def _with_few_moves(rows: list[Row], slots: dict[Row, int]) -> list[Row]:
    """Return the rows in an order in which most keep their slots: those behind the end fill the holes."""
    ordered: list[Row | None] = [None] * len(rows)
    movers = []
    for row in rows:
        if slots[row] < len(rows):
            ordered[slots[row]] = row
        else:
            movers.append(row)
    return [movers.pop() if row is None else row for row in ordered]
