"""Parquet files: rows by number, equal to those of other kinds, and never a traceback."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dataset_checks import check, codes
from dataset_corpus import PARQUET, CorpusFile

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("case", PARQUET, ids=lambda case: case.name)
def test_what_is_no_parquet_file_gives_its_finding(case: CorpusFile, tmp_path: Path) -> None:
    path = tmp_path / case.file
    path.write_bytes(case.content)

    assert codes(check(path)) == list(case.expected)


def test_a_row_is_the_same_in_parquet_as_in_json_lines(tmp_path: Path) -> None:
    rows = [{"prompt": f"q {n}", "completion": f"a {n}"} for n in range(3)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet")

    assert check(tmp_path / "a.jsonl").digest == check(tmp_path / "b.parquet").digest


def test_parquet_conversations_are_understood_and_bad_rows_numbered(tmp_path: Path) -> None:
    good = [
        {"role": "user", "content": "a", "weight": None},
        {"role": "assistant", "content": "b", "weight": 1},
    ]
    pq.write_table(pa.Table.from_pylist([{"messages": good}, {"messages": good[:1]}]), tmp_path / "a.parquet")

    report = check(tmp_path / "a.parquet")

    assert [(finding.code, finding.line) for finding in report.findings] == [("RoleOrder", 2)]
    assert report.rows == 1


@pytest.mark.parametrize("cut", range(4, 600, 37))
def test_a_torn_parquet_file_gives_a_finding(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{"text": f"text {n}"} for n in range(50)]), path)
    data = bytearray(path.read_bytes())
    (tmp_path / "cut.parquet").write_bytes(data[:-cut])
    data[-cut] ^= 0xFF
    (tmp_path / "flipped.parquet").write_bytes(data)

    assert codes(check(tmp_path / "cut.parquet")) == ["FileMalformed"]
    assert set(codes(check(tmp_path / "flipped.parquet"))) <= {
        "FileMalformed",
        "WrongType",
        "FieldMissing",
        "FormatUnknown",
        "NotUtf8",
        "DuplicateRow",
    }
