"""A dataset's rows on their way from the files into a token store: checked, rendered, tokenised in batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from fettle_trainer.data.check import DatasetCheck
from fettle_trainer.data.rowhash import leading_number
from fettle_trainer.data.split import AUTO_SHARE, NO_LABEL, split_by_hash
from fettle_trainer.text.encode import Encoder
from fettle_trainer.text.tokens import size_of

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from fettle_trainer.config.dataset import DatasetConfig, RowFormat
    from fettle_trainer.config.dataset_report import DatasetReport
    from fettle_trainer.config.run import RunConfig
    from fettle_trainer.data.check import FoundFiles
    from fettle_trainer.data.examples import Example
    from fettle_trainer.data.rowset import Place
    from fettle_trainer.data.split import Split
    from fettle_trainer.text.store import TokenWriter
    from fettle_trainer.text.tokens import Rendered

_BATCH_ROWS: Final = 1024
_BATCH_BYTES: Final = 2**18
"""The tokenizer keeps some hundred bytes for each token of a batch."""


@dataclass(frozen=True)
class ReadRows:
    """What is known of the rows beside their tokens."""

    report: DatasetReport
    row_format: RowFormat | None
    labels: tuple[str, ...]
    names: tuple[str, ...]
    template_digest: str | None


class _Waiting(NamedTuple):
    rendered: Rendered
    place: Place
    number: int
    label: str | None


def read_rows(
    config: RunConfig, files: FoundFiles, tokenizer: PreTrainedTokenizerBase, writer: TokenWriter
) -> ReadRows:
    """Read all files into the writer; the report says what of them cannot be used."""
    taker = _Taker(config, tokenizer, writer)
    with DatasetCheck(config.dataset, taker) as check:
        check.read_all(files)
        taker.flush()
        report = check.report(config.training)
        writer.split(_bounds(check.split(), len(check.labels)))
        return ReadRows(report, check.row_format, check.labels[1:], tuple(check.names), taker.template_digest)


class _Taker:
    """Renders each row at once, so that a refused one is a bad row; tokenises many together."""

    def __init__(self, config: RunConfig, tokenizer: PreTrainedTokenizerBase, writer: TokenWriter) -> None:
        self._tokenizer = tokenizer
        self._train_on = config.training.loss.train_on
        self._writer = writer
        self._bound = _most_held_back(config.dataset)
        self._encoder: Encoder | None = None
        self._waiting: list[_Waiting] = []
        self._bytes = 0
        self._written = 0

    @property
    def template_digest(self) -> str | None:
        """The digest of the chat template, if the rows were written with one."""
        template = self._encoder.template if self._encoder else None
        return template.digest if template else None

    def take(self, example: Example, row_format: RowFormat, row: bytes, place: Place) -> None:
        """Take one row, or raise RowError."""
        if self._encoder is None:
            self._encoder = Encoder(self._tokenizer, row_format, self._train_on)
        rendered = self._encoder.rendered(example)
        self._waiting.append(_Waiting(rendered, place, leading_number(row), example.label))
        self._bytes += size_of(rendered.text)
        if len(self._waiting) >= _BATCH_ROWS or self._bytes >= _BATCH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Tokenise what waits."""
        if self._encoder is None or not self._waiting:
            return
        rows = self._encoder.rows([row.rendered for row in self._waiting])
        self._writer.add(
            [(tokens, row.place, row.number) for tokens, row in zip(rows, self._waiting, strict=True)]
        )
        for at, row in enumerate(self._waiting, start=self._written):
            if row.place.validation or row.place.label != NO_LABEL or row.number < self._bound:
                self._writer.refer(at, row.rendered.reference, row.label)
        self._written += len(self._waiting)
        self._waiting, self._bytes = [], 0


def _most_held_back(dataset: DatasetConfig) -> int:
    """Return the bound below which a row without a label may be held back, before their number is known."""
    if dataset.validation:
        return 0
    given = dataset.validation_split
    return split_by_hash(AUTO_SHARE if given is None else float(given.removesuffix("%")) / 100).bound


def _bounds(split: Split, labels: int) -> np.ndarray:
    # One more for the labels beyond those that are told apart.
    return np.array([min(split.bound_of(label), 2**64 - 1) for label in range(labels + 1)], dtype=np.uint64)
