"""Conversations as the rows that the base model is trained on: packed, each one by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from fettle_trainer.base.tokenizer import END, START

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from transformers import PreTrainedTokenizerFast

    from fettle_trainer.base.corpus import Conversation

UNTRAINED: Final = -100
"""The label that the loss skips."""


class Row(NamedTuple):
    """Several conversations in one row; positions begin again with each, so that none sees another."""

    input_ids: list[int]
    labels: list[int]
    position_ids: list[int]


class RowWriter:
    """Writes conversations as the chat template does, and marks what the assistant says."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, capacity: int) -> None:
        self._tokenizer = tokenizer
        self._capacity = capacity
        self._heads = tuple(self._ids(f"{START}{role}\n") for role in ("user", "assistant"))
        self._end = self._ids("\n")

    def rows(self, conversations: Iterable[Conversation]) -> Iterator[Row]:
        """Fill rows to their capacity, one after the other; what is left at a row's end is padding."""
        row = Row([], [], [])
        for conversation in conversations:
            ids, labels = self._encoded(conversation)
            if len(row.input_ids) + len(ids) > self._capacity:
                yield self._padded(row)
                row = Row([], [], [])
            row.input_ids.extend(ids)
            row.labels.extend(labels)
            row.position_ids.extend(range(len(ids)))

    def _encoded(self, conversation: Conversation) -> tuple[list[int], list[int]]:
        ids: list[int] = []
        labels: list[int] = []
        for index, text in enumerate(conversation):
            answers = index % 2 == 1
            head, body = self._heads[answers], self._ids(text + END)
            ids += head + body + self._end
            labels += [UNTRAINED] * len(head)
            labels += body if answers else [UNTRAINED] * len(body)
            labels += [UNTRAINED] * len(self._end)
        return ids, labels

    def _padded(self, row: Row) -> Row:
        room = self._capacity - len(row.input_ids)
        return Row(
            row.input_ids + [self._tokenizer.pad_token_id] * room,
            row.labels + [UNTRAINED] * room,
            row.position_ids + list(range(room)),
        )

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text).input_ids
        return ids
