"""Reading CSV: a header line, then one row per record; quoted fields may span lines."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Final

from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.jsonl import split_lines
from fettle_trainer.data.problems import BadRow, DataFileError, Row
from fettle_trainer.data.values import MAX_ROW_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fettle_trainer.data.streams import Source

_MAX_COLUMNS: Final = 1000
_DELIMITERS: Final = (",", ";", "\t")


def read_csv(source: Source) -> Iterator[Row | BadRow]:
    """Yield every record as a row of texts under the names of the header."""
    # A setting of the whole process, and the only way to bound a field whose closing quote is missing.
    csv.field_size_limit(MAX_ROW_BYTES)
    lines = _Lines(source)
    first = next(lines, "")
    delimiter = max(_DELIMITERS, key=first.count)
    reader = csv.reader(_again(first, lines), delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        line = lines.number + 1 if header is not None else 1
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "field limit" in str(error):
                raise DataFileError(
                    FindingCode.FILE_MALFORMED,
                    f"A field is longer than {MAX_ROW_BYTES // 2**20} MiB; its closing quote is missing, it seems.",
                    line=line,
                ) from error
            yield BadRow(
                line, FindingCode.INVALID_CSV, f"Not valid CSV: {error}. Quotes inside a field are doubled."
            )
            if header is None:
                return
            continue
        if header is None:
            header = _header(record)
        elif record:
            yield _row(header, record, line)


def _header(record: list[str]) -> list[str]:
    names = [name.strip() for name in record]
    if names[:1] and names[0].startswith(("{", "[")):
        raise DataFileError(
            FindingCode.FILE_KIND_MISMATCH, "The file holds JSON, not CSV. Name it .jsonl or .json.", line=1
        )
    if len(names) > _MAX_COLUMNS:
        raise DataFileError(
            FindingCode.FILE_MALFORMED, f"The header has more than {_MAX_COLUMNS} columns.", line=1
        )
    if not all(names) or len(set(names)) != len(names):
        raise DataFileError(
            FindingCode.FILE_MALFORMED, "The first line must name every column, each name once.", line=1
        )
    return names


def _row(header: list[str], record: list[str], line: int) -> Row | BadRow:
    if len(record) != len(header):
        return BadRow(
            line,
            FindingCode.COLUMN_COUNT,
            f"The row has {len(record)} fields, the header {len(header)}. Quote fields that hold the separator.",
        )
    unreadable = next((name for name, text in zip(header, record, strict=True) if _is_marked(text)), None)
    if unreadable is not None:
        return BadRow(
            line, FindingCode.NOT_UTF8, "The field is not UTF-8. Save the file as UTF-8.", field=unreadable
        )
    return Row(line, dict(zip(header, record, strict=True)))


def _is_marked(text: str) -> bool:
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)


def _again(first: str, rest: Iterator[str]) -> Iterator[str]:
    yield first
    yield from rest


class _Lines:
    """The lines of the file as text, counted; csv wants their ends."""

    def __init__(self, source: Source) -> None:
        self._lines = split_lines(source)
        self.number = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        if line is None:
            raise DataFileError(
                FindingCode.LINE_TOO_LONG,
                f"The line is longer than {MAX_ROW_BYTES // 2**20} MiB, the most that is read.",
                line=self.number,
            )
        # Bytes that are not UTF-8 are marked here and reported with their row.
        return line.decode("utf-8", "surrogateescape") + "\n"
