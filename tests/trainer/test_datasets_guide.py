"""What the guide on datasets shows is true: its rows pass, its run file is valid, its codes are all there are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dataset_checks import check
from fettle_trainer.config import RunConfig
from fettle_trainer.config.dataset_report import FindingCode

GUIDE = (Path(__file__).parents[2] / "docs/guides/datasets.md").read_text()
ROWS = re.findall(r"`([a-z-]+)`[^\n]*:\n```jsonl\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize(("row_format", "rows"), ROWS, ids=[row_format for row_format, _ in ROWS])
def test_a_row_of_the_guide_passes_as_its_format(row_format: str, rows: str, tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    path.write_text(rows)

    report = check(path)

    assert (report.passed, report.format, report.findings) == (True, row_format, ())


def test_the_guide_shows_every_format() -> None:
    assert len(ROWS) == 6


def test_the_run_file_of_the_guide_is_valid() -> None:
    (document,) = re.findall(r"```json\n(.*?)```", GUIDE, re.DOTALL)
    assert RunConfig.model_validate_json(document).dataset.max_bad_rows == 10


def test_the_guide_lists_every_code_of_a_finding() -> None:
    table = GUIDE.partition("## Findings")[2].partition("## Known limits")[0]
    assert set(re.findall(r"`([A-Z]\w+)`", table)) == set(FindingCode)
