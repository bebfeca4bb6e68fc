"""What sources look like without being read: enough to know whether they are what was read before."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fettle_trainer.config.dataset import DatasetConfig
from fettle_trainer.data.sources import appearance

if TYPE_CHECKING:
    from pathlib import Path


def dataset(*paths: Path | str) -> DatasetConfig:
    return DatasetConfig.model_validate({"train": [{"path": str(path)} for path in paths]})


def test_the_same_files_look_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}")
    assert appearance(dataset(tmp_path / "*.jsonl")) == appearance(dataset(tmp_path / "*.jsonl")) != []


def test_a_file_that_is_written_to_or_joined_by_another_looks_different(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{}")
    before = appearance(dataset(tmp_path))
    os.utime(path, ns=(0, 0))
    touched = appearance(dataset(tmp_path))
    (tmp_path / "b.jsonl").write_text("{}")
    joined = appearance(dataset(tmp_path))

    assert before != touched != joined != before


def test_data_that_is_gone_looks_like_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{}")
    assert appearance(dataset(tmp_path / "a.jsonl", tmp_path / "b.jsonl")) is None
    assert appearance(dataset(tmp_path / "x" / "*.jsonl")) is None


def test_what_is_fetched_is_told_by_its_digest_or_revision() -> None:
    def fetched(revision: str) -> DatasetConfig:
        return DatasetConfig.model_validate(
            {
                "train": [{"huggingFace": {"repo": "a/b", "revision": revision}}],
                "validation": [{"http": {"url": "https://example.com/a.jsonl", "sha256": "0" * 64}}],
            }
        )

    seen = appearance(fetched("v1"))
    assert seen == appearance(fetched("v1"))
    assert seen != appearance(fetched("v2"))
