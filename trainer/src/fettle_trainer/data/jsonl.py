"""Reading JSON Lines: one object per line, in pieces of bounded size."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.problems import BadRow
from fettle_trainer.data.streams import CHUNK_BYTES
from fettle_trainer.data.values import MAX_ROW_BYTES, parse_row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fettle_trainer.data.problems import Row
    from fettle_trainer.data.streams import Source


def read_jsonl(source: Source) -> Iterator[Row | BadRow]:
    """Yield every line's row or problem; blank lines separate and count as lines only."""
    for number, line in enumerate(split_lines(source), start=1):
        if line is None:
            yield too_long(number)
        elif line and not line.isspace():
            yield parse_row(line, number)


def split_lines(source: Source) -> Iterator[bytes | None]:
    """Yield the lines without their ends; None stands for one that is longer than a row may be."""
    kept: list[bytes] = []
    size = 0
    while chunk := source.read(CHUNK_BYTES):
        *complete, rest = chunk.split(b"\n")
        for part in complete:
            yield _joined(kept, size, part)
            kept, size = [], 0
        size += len(rest)
        # A line beyond the limit is counted, not kept.
        if size <= MAX_ROW_BYTES:
            kept.append(rest)
        else:
            kept = []
    if size:
        yield _joined(kept, size, b"")


def _joined(kept: list[bytes], size: int, last: bytes) -> bytes | None:
    if size + len(last) > MAX_ROW_BYTES:
        return None
    return b"".join((*kept, last)) if kept else last


def too_long(line: int) -> BadRow:
    """Report a row beyond the limit."""
    return BadRow(
        line,
        FindingCode.LINE_TOO_LONG,
        f"The row is longer than {MAX_ROW_BYTES // 2**20} MiB, the most that is read.",
    )
