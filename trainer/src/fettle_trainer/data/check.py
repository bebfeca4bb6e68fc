"""The check of a dataset: read everything, understand every row, and say all that is wrong.

It needs neither the model nor a GPU, and its memory does not grow with the data. Who wants the rows themselves, to
make tokens of them, gets each usable one handed on.
"""

from __future__ import annotations

import hashlib
import heapq
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from fettle_trainer.config.dataset_report import DataFileFacts, DatasetReport, FindingCode
from fettle_trainer.data.examples import RowError
from fettle_trainer.data.findings import Findings
from fettle_trainer.data.formats import detect, interpreter
from fettle_trainer.data.problems import BadRow, DataFileError
from fettle_trainer.data.reading import DataFileReader
from fettle_trainer.data.rowhash import leading_number, row_hash
from fettle_trainer.data.rowset import Place, RowSet
from fettle_trainer.data.split import (
    MOST_LABELS,
    NO_LABEL,
    Split,
    split_by_hash,
    split_by_label,
    validation_share,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fettle_trainer.config.dataset import DatasetConfig, RowFormat
    from fettle_trainer.config.run import TrainingConfig
    from fettle_trainer.data.examples import Example, Interpreter
    from fettle_trainer.data.files import DataFile
    from fettle_trainer.data.rowset import Repetition

_LISTED_REPETITIONS: Final = 40


@dataclass(frozen=True)
class FoundFiles:
    """What the sources of a dataset turned out to be."""

    train: Iterable[DataFile | DataFileError]
    validation: Iterable[DataFile | DataFileError]


class RowTaker(Protocol):
    """Who is handed every usable row, in the order in which they stand."""

    def take(self, example: Example, row_format: RowFormat, row: bytes, place: Place) -> None:
        """Take one row, or raise RowError: then it is a bad row."""


def check_dataset(files: FoundFiles, dataset: DatasetConfig, training: TrainingConfig) -> DatasetReport:
    """Read all files and report."""
    with DatasetCheck(dataset) as check:
        check.read_all(files)
        return check.report(training)


def predicted_steps(rows: int, training: TrainingConfig) -> int | None:
    """Predict the optimizer steps, where the settings say enough."""
    if training.max_steps is not None:
        return training.max_steps
    if training.epochs is None or training.batch_size is None:
        return None
    return math.ceil(rows / training.batch_size * training.epochs)


@dataclass
class _Tally:
    """What is counted on the way."""

    rows: int = 0
    validation_rows: int = 0
    bad_rows: int = 0
    characters: int = 0
    trained_characters: int = 0
    failed_files: int = 0
    files: list[DataFileFacts] = field(default_factory=list)


class DatasetCheck:
    """One run over the files, and what is known after it."""

    def __init__(self, dataset: DatasetConfig, taker: RowTaker | None = None) -> None:
        self._dataset = dataset
        self._taker = taker
        self._interpret: Interpreter | None = None
        self._tally = _Tally()
        self._digest = hashlib.sha256()
        self._labels: dict[str, int] = {}
        self.row_format: RowFormat | None = None
        self.names: list[str] = []
        self.findings = Findings()
        self.rows = RowSet()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.rows.close()

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels by number; the first number is NO_LABEL, which is none."""
        return ("", *self._labels)

    def read_all(self, files: FoundFiles) -> None:
        """Read the files to train on, then those to validate on."""
        for file in files.train:
            self.read(file, validation=False)
        for file in files.validation:
            self.read(file, validation=True)

    def read(self, file: DataFile | DataFileError, *, validation: bool) -> None:
        """Read one file to its end, or as far as it goes."""
        if isinstance(file, DataFileError):
            self._file_failed(file, file.name)
            return
        self.names.append(file.name)
        usable, bad = self._tally.rows + self._tally.validation_rows, self._tally.bad_rows
        reader = DataFileReader(file)
        try:
            for row in reader:
                if isinstance(row, BadRow):
                    self._bad(row.code, row.message, row.line, row.field, row.column)
                else:
                    self._take(row.value, row.line, validation=validation)
                # Let go of before the next is parsed: two of the largest rows would not fit in the memory.
                del row
        except DataFileError as error:
            self._file_failed(error, file.name)
        facts = DataFileFacts(
            path=file.name[-512:],
            sha256=reader.sha256,
            size_bytes=reader.size_bytes,
            rows=self._tally.rows + self._tally.validation_rows - usable,
            bad_rows=self._tally.bad_rows - bad,
        )
        self._tally.files.append(facts)

    def report(self, training: TrainingConfig) -> DatasetReport:
        """Compare the rows with each other and sum up."""
        tally = self._tally
        duplicates, leaked = self._repetitions()
        held = self._held_back(self.split())
        rows = tally.rows - held
        if not rows and not tally.bad_rows and not tally.failed_files:
            self.findings.add(FindingCode.NO_ROWS, "The dataset holds no row to train on.")
        return DatasetReport(
            passed=bool(rows) and not tally.failed_files and tally.bad_rows <= self._dataset.max_bad_rows,
            format=self.row_format,
            rows=rows,
            validation_rows=tally.validation_rows + held,
            bad_rows=tally.bad_rows,
            duplicate_rows=duplicates,
            leaked_rows=leaked,
            characters=tally.characters,
            trained_character_share=_share(tally.trained_characters, tally.characters),
            predicted_steps=predicted_steps(rows, training),
            digest=f"sha256:{self._digest.hexdigest()}" if rows else None,
            counts=dict(self.findings.counts),
            findings=self.findings.kept,
            files=tuple(tally.files),
        )

    def _take(self, value: dict[str, Any], line: int, *, validation: bool) -> None:
        try:
            example = self._understood(value)
            row = row_hash(example)
            place = Place(validation, len(self.names) - 1, line, self._label(example))
            if self._taker is not None and self.row_format is not None:
                self._taker.take(example, self.row_format, row, place)
        except RowError as error:
            self._bad(error.code, error.message, line, error.field)
            return
        self._count(example, validation=validation)
        self._digest.update(row)
        self.rows.add(row, place)

    def _label(self, example: Example) -> int:
        """Return the number of a row's label; those beyond MOST_LABELS share the last."""
        if example.label is None:
            return NO_LABEL
        known = self._labels.get(example.label)
        if known is None and len(self._labels) < MOST_LABELS:
            known = self._labels[example.label] = len(self._labels) + 1
        return MOST_LABELS + 1 if known is None else known

    def _understood(self, value: dict[str, Any]) -> Example:
        interpret = self._interpret or self._settled(value)
        try:
            return interpret(value)
        except RowError as error:
            other = detect(value, self._dataset) if self._dataset.format == "auto" else None
            if other is not None and other != self.row_format:
                message = (
                    f"The row is {other}, rows before it are {self.row_format}. One dataset has one format."
                )
                raise RowError(FindingCode.MIXED_FORMATS, "", message) from error
            raise

    def _settled(self, value: dict[str, Any]) -> Interpreter:
        """Choose the format by the first row that fits one."""
        found = self._dataset.format if self._dataset.format != "auto" else detect(value, self._dataset)
        if found is None:
            names = ", ".join(sorted(value)[:8]) or "none"
            message = (
                f"The columns ({names}) fit no format. Known are messages, conversations, prompt and completion, "
                "instruction and output, text and label, text; others are named in columns or template."
            )
            raise RowError(FindingCode.FORMAT_UNKNOWN, "", message)
        self.row_format = found
        self._interpret = interpreter(found, value, self._dataset)
        return self._interpret

    def _count(self, example: Example, *, validation: bool) -> None:
        tally = self._tally
        if validation:
            tally.validation_rows += 1
        else:
            tally.rows += 1
        for turn in example.turns:
            tally.characters += len(turn.text)
            if turn.trained:
                tally.trained_characters += len(turn.text)

    def _bad(
        self, code: FindingCode, message: str, line: int, where: str = "", column: int | None = None
    ) -> None:
        self._tally.bad_rows += 1
        self.findings.add(code, message, file=self.names[-1], line=line, column=column, field=where)

    def _file_failed(self, error: DataFileError, name: str) -> None:
        self._tally.failed_files += 1
        self.findings.add(error.code, error.message, file=name, line=error.line)

    def _repetitions(self) -> tuple[int, int]:
        """List the first repeated rows, and count all duplicates and leaks."""
        counts = {FindingCode.DUPLICATE_ROW: 0, FindingCode.LEAKED_ROW: 0}

        def counted() -> Iterator[Repetition]:
            for repetition in self.rows.repetitions():
                counts[_kind(repetition)] += 1
                yield repetition

        for repetition in heapq.nsmallest(_LISTED_REPETITIONS, counted(), key=_reading_order):
            code, place, first = _kind(repetition), repetition.place, repetition.first
            elsewhere = f"line {first.line} of {self.names[first.file]}"
            message = {
                FindingCode.DUPLICATE_ROW: f"The row repeats {elsewhere}; it would count twice.",
                FindingCode.LEAKED_ROW: f"The validation row is trained on too, in {elsewhere}; it measures nothing.",
            }[code]
            self.findings.add(code, message, severity="warning", file=self.names[place.file], line=place.line)
        for code, count in counts.items():
            self.findings.count(code, count)
        return counts[FindingCode.DUPLICATE_ROW], counts[FindingCode.LEAKED_ROW]

    def split(self) -> Split:
        """Return which of the rows read so far are held back."""
        share = validation_share(self._dataset, self._tally.rows)
        if not share or not self._labels:
            return split_by_hash(share)

        def rows() -> Iterator[tuple[int, int]]:
            return (
                (leading_number(row), place.label)
                for row, place in self.rows.hashes()
                if not place.validation
            )

        return split_by_label(share, rows)

    def _held_back(self, split: Split) -> int:
        if not split.bound and not split.by_label:
            return 0
        return sum(split.holds(leading_number(row), place.label) for row, place in self.rows.hashes())


def _kind(repetition: Repetition) -> FindingCode:
    leaked = repetition.place.validation and not repetition.first.validation
    return FindingCode.LEAKED_ROW if leaked else FindingCode.DUPLICATE_ROW


def _reading_order(repetition: Repetition) -> tuple[bool, int, int]:
    place = repetition.place
    return place.validation, place.file, place.line


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
