"""Splitting by label: each keeps its share exactly, decided by the rows' own hashes."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from dataset_checks import check
from fettle_trainer.data.split import MOST_LABELS, split_by_label


def hashes(seed: int, sizes: dict[int, int]) -> list[tuple[int, int]]:
    source = random.Random(seed)  # noqa: S311 - test data
    return [(source.getrandbits(64), label) for label, size in sizes.items() for _ in range(size)]


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_each_label_keeps_its_share(share: float) -> None:
    sizes = {1: 1000, 2: 200, 3: 7, 4: 1}
    rows = hashes(1, sizes)

    split = split_by_label(share, lambda: rows)

    held = Counter(label for number, label in rows if split.holds(number, label))
    assert {label: held[label] for label in sizes} == {
        label: int(share * size + 0.5) for label, size in sizes.items()
    }


def test_rows_stay_where_they_are_when_other_labels_grow() -> None:
    rows = hashes(2, {1: 500})
    grown = rows + hashes(3, {2: 5000})
    before, after = split_by_label(0.1, lambda: rows), split_by_label(0.1, lambda: grown)
    assert [before.holds(*row) for row in rows] == [after.holds(*row) for row in rows]


def test_hashes_that_begin_alike_are_told_apart() -> None:
    rows = [(number, 1) for number in range(100)]
    split = split_by_label(0.25, lambda: rows)
    assert [number for number, label in rows if split.holds(number, label)] == list(range(25))


def test_a_repeated_row_never_stands_on_both_sides() -> None:
    rows = [(number // 4, 1) for number in range(400)]
    split = split_by_label(0.1, lambda: rows)
    assert sum(split.holds(*row) for row in rows) == 40


def classified(path: Path, sizes: dict[str, int], **names: str) -> Path:
    rows = [
        {names.get("text", "text"): f"{label} {n}", names.get("label", "label"): label}
        for label, size in sizes.items()
        for n in range(size)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_classified_rows_are_split_by_their_label(tmp_path: Path) -> None:
    data = classified(tmp_path / "a.jsonl", {"billing": 200, "outage": 100, "praise": 20})
    report = check(data, validationSplit="10%")
    assert (report.rows, report.validation_rows) == (288, 32)


def test_rows_of_another_format_are_split_by_a_named_column(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [{"prompt": f"q {n}", "completion": "a", "kind": n % 4} for n in range(80)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    report = check(path, validationSplit="10%", columns={"label": "kind"})

    assert (report.format, report.rows, report.validation_rows) == ("prompt-completion", 72, 8)
    missing = check(path, validationSplit="10%", columns={"label": "sort"})
    assert (missing.passed, missing.counts) == (False, {"FieldMissing": 80})


def test_more_labels_than_are_told_apart_are_still_split(tmp_path: Path) -> None:
    data = classified(tmp_path / "a.jsonl", {f"label {n}": 2 for n in range(MOST_LABELS + 500)})
    report = check(data, validationSplit="50%")
    assert report.validation_rows == MOST_LABELS + 500
