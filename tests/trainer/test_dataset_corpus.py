"""Every file of the corpus gives exactly its findings, and none a traceback."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dataset_checks import check
from dataset_corpus import CORPUS, CorpusFile

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_a_file_gives_exactly_its_findings(case: CorpusFile, tmp_path: Path) -> None:
    path = tmp_path / case.file
    path.write_bytes(case.content)

    report = check(path, validationSplit="0%", **case.dataset)

    found = [str(finding.code) + (f"@{finding.line}" if finding.line else "") for finding in report.findings]
    assert found == list(case.expected)
    assert all(finding.file == str(path) for finding in report.findings if finding.code != "NoRows")
    errors = [finding for finding in report.findings if finding.severity == "error"]
    assert report.passed == (not errors)
    if case.rows is not None:
        assert report.rows == case.rows


def test_the_corpus_is_as_large_as_it_should_be() -> None:
    names = [case.name for case in CORPUS]
    assert len(CORPUS) >= 150
    assert len(set(zip(names, (case.file for case in CORPUS), strict=True))) == len(CORPUS)
