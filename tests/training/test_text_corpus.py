"""Every file of the corpus of odd and broken data either fails with findings or becomes tokens; never a traceback."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from dataset_checks import check
from dataset_corpus import CORPUS, CorpusFile
from dataset_damage import damaged
from fettle_trainer.config import RunConfig
from fettle_trainer.errors import WrongInputError
from fettle_trainer.text import prepared as prepared_module
from fettle_trainer.text.prepared import Prepared, prepare
from fettle_trainer.text.tokenizer import load_tokenizer

SMALL = [case for case in CORPUS if len(case.content) < 100_000]


@pytest.mark.parametrize("family", ["qwen2", "gemma2"])
def test_what_passes_the_check_becomes_tokens(
    family: str, tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(tiny(family))
    monkeypatch.setattr(prepared_module, "load_tokenizer", lambda _: tokenizer)
    tokenised = [case.name for case in SMALL if becomes_tokens(case, tiny(family), tmp_path)]
    assert len(tokenised) > 40


def test_what_survives_damage_becomes_tokens_too(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(tiny("qwen2"))
    monkeypatch.setattr(prepared_module, "load_tokenizer", lambda _: tokenizer)
    source = random.Random(20_261_121)  # noqa: S311 - test data
    originals = [case for case in SMALL if 0 < len(case.content) < 4096]
    tokenised = 0
    for _ in range(300):
        case = source.choice(originals)
        content = damaged(case.content, source.choice(originals).content, source)
        broken = replace(case, content=content, dataset={**case.dataset, "maxBadRows": 1000})
        tokenised += becomes_tokens(broken, tiny("qwen2"), tmp_path)
    assert tokenised > 60


def becomes_tokens(case: CorpusFile, model: Path, root: Path) -> bool:
    with TemporaryDirectory(dir=root) as folder:
        path = Path(folder) / case.file
        path.write_bytes(case.content)
        dataset = {"train": [{"path": str(path)}], "validationSplit": "0%", **case.dataset}
        document = {
            "model": {"path": str(model)},
            "dataset": dataset,
            "training": {"overlong": "truncate"},
            "output": {"directory": folder, "adapterName": "a"},
        }
        passes = check(path, validationSplit="0%", **case.dataset).passed
        ready = attempted(RunConfig.model_validate(document), model, Path(folder) / "work")
        if isinstance(ready, WrongInputError):
            # What the check lets through, the model's chat template alone may refuse.
            assert not passes or ready.code == "TemplateRefused", f"{case.name}: {ready.message}"
            assert ready.message.endswith("."), case.name
            return False
        assert passes, case.name
        for number in range(len(ready.train)):
            assert (ready.train.row(number).labels >= 0).any(), case.name
        return True


def attempted(config: RunConfig, model: Path, work: Path) -> Prepared | WrongInputError:
    try:
        return prepare(config, model, work)
    except WrongInputError as error:
        return error
