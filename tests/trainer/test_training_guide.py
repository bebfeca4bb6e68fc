"""The guide on training lists the settings that there are, with the defaults that they have."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from fettle_trainer.__main__ import COMMANDS
from fettle_trainer.config import RunConfig

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/guides/training.md").read_text()
ROWS = dict(re.findall(r"^\| `([A-Za-z.]+)` \| (.*?) ?\| ", GUIDE, re.MULTILINE))


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the path and the default of every setting; the dataset has a guide of its own."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        below = nested(field.annotation)
        if below is None or path == "dataset":
            yield path, None if field.is_required() else field.get_default(call_default_factory=True)
        else:
            yield from settings(below, f"{path}.")


def nested(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := nested(part))), None)


SETTINGS = dict(settings(RunConfig))


def test_the_guide_lists_every_setting_and_no_other() -> None:
    assert list(ROWS) == list(SETTINGS)


@pytest.mark.parametrize("path", [path for path, default in SETTINGS.items() if default not in (None, ())])
def test_the_guide_tells_the_default(path: str) -> None:
    assert ROWS[path] == f"`{json.dumps(SETTINGS[path])}`"


def test_the_guide_knows_every_command_for_people() -> None:
    told = set(re.findall(r"^\| `([a-z-]+) ", GUIDE, re.MULTILINE))
    assert told | {"verify", "seal"} == set(COMMANDS)


def test_the_example_is_a_valid_run_on_files_that_are_there() -> None:
    config = RunConfig.model_validate_json((ROOT / "examples/train-on-a-laptop/run.json").read_bytes())

    for source in (*config.dataset.train, *config.dataset.validation):
        assert (ROOT / (source.path or "")).is_file()


def test_the_examples_rows_are_what_its_generator_writes() -> None:
    folder = ROOT / "examples/train-on-a-laptop"
    training, validation = runpy.run_path(str(folder / "make_data.py"))["rows"]()

    assert (folder / "train.jsonl").read_text() == "".join(training)
    assert (folder / "validation.jsonl").read_text() == "".join(validation)
    assert not set(training) & set(validation)
