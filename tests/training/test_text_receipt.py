"""The receipt shows the first rows as the model sees them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from fettle_trainer.config import RunConfig
from fettle_trainer.text.prepared import Prepared, prepare
from fettle_trainer.text.receipt import write_receipt
from fettle_trainer.text.tokenizer import load_tokenizer


def prepared(model: Path, folder: Path, train_on: str = "auto") -> Prepared:
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {n}?"},
                {"role": "assistant", "content": f"A\n# {n}."},
            ]
        }
        for n in range(5)
    ]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    document = {
        "model": {"path": str(model)},
        "dataset": {"train": [{"path": str(folder / "a.jsonl")}]},
        "training": {"loss": {"trainOn": train_on}},
        "output": {"directory": str(folder), "adapterName": "a"},
    }
    return prepare(RunConfig.model_validate(document), model, folder / "work")


def test_the_first_rows_are_shown_with_every_trained_token_marked(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    model = tiny("gemma2")
    ready = prepared(model, tmp_path)

    receipt = write_receipt(ready, load_tokenizer(model), tmp_path / "work")

    written = json.loads((tmp_path / "work/receipt.json").read_text())
    assert (written["rows"], len(written["samples"]), written["format"]) == (5, 3, "chat")
    assert written["trainedTokenShare"] == ready.facts.trained_token_share
    first = written["samples"][0]
    assert (first["file"], first["line"]) == (str(tmp_path / "a.jsonl"), 1)
    assert [token["trained"] for token in first["tokens"]] == (ready.train.row(0).labels >= 0).tolist()
    assert "".join(token["text"] for token in first["tokens"] if token["trained"]) == "A\n# 0.<end_of_turn>"
    assert receipt.warnings == ()
    shown = (tmp_path / "work/receipt.md").read_text()
    assert "\n    <start_of_turn>model\n    ⟦A\n    # 2.<end_of_turn>⟧\n" in shown


def test_a_chat_of_which_all_is_trained_is_warned_about(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    model = tiny("llama")
    ready = prepared(model, tmp_path, train_on="all")

    (warning,) = write_receipt(ready, load_tokenizer(model), tmp_path / "work").warnings

    assert "the user's too" in warning
    assert f"**Warning:** {warning}" in (tmp_path / "work/receipt.md").read_text()
