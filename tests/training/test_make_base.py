"""The base model for demos: the same bytes for the same recipe, made once, and it can chat in its little world."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from fettle_trainer.__main__ import main
from fettle_trainer.base.corpus import conversations
from fettle_trainer.base.make import cache_folder, copy_to, make_base
from fettle_trainer.base.recipe import Recipe
from fettle_trainer.base.rows import UNTRAINED, RowWriter
from fettle_trainer.base.tokenizer import train_tokenizer
from fettle_trainer.base.world import ITEMS, PROBLEMS
from fettle_trainer.errors import WrongInputError

SMALL = Recipe(steps=2, threads=1, hidden_size=32, intermediate_size=64, layers=1, heads=2, vocabulary=320)


def nothing(_step: int, _loss: float) -> None:
    """Tell nobody."""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_recipe_makes_the_same_bytes_and_another_seed_does_not(tmp_path: Path) -> None:
    one, two = (make_base(SMALL, tmp_path / name, nothing) for name in ("one", "two"))
    other = make_base(dataclasses.replace(SMALL, seed=1), tmp_path / "one", nothing)

    assert (one.name, contents(one)) == (two.name, contents(two))
    assert other.name != one.name
    assert contents(other)["model.safetensors"] != contents(one)["model.safetensors"]


def test_a_model_that_was_made_before_is_not_made_again(tmp_path: Path) -> None:
    steps: list[int] = []
    for _ in range(2):
        make_base(SMALL, tmp_path, lambda step, _: steps.append(step))

    assert steps == [1, 2]


def test_a_maker_that_dies_leaves_nothing_that_looks_made(tmp_path: Path) -> None:
    def die(_step: int, _loss: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_base(SMALL, tmp_path, die)

    assert list(tmp_path.iterdir()) == []


def test_a_made_model_is_put_where_it_is_wanted_and_over_nothing_else(tmp_path: Path) -> None:
    made = make_base(SMALL, tmp_path / "cache", nothing)

    copy_to(made, tmp_path / "base")
    copy_to(made, tmp_path / "base")
    (tmp_path / "base" / "config.json").write_text("{}")

    with pytest.raises(WrongInputError, match="holds something else"):
        copy_to(made, tmp_path / "base")


def test_the_folder_holds_what_a_chat_model_needs_and_says_what_it_is(tmp_path: Path) -> None:
    made = make_base(SMALL, tmp_path, nothing)
    tokenizer = AutoTokenizer.from_pretrained(made)
    model = AutoModelForCausalLM.from_pretrained(made)

    assert sorted(contents(made)) == [
        "README.md",
        "chat_template.jinja",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id, tokenizer.pad_token_id]
    assert SMALL.key in (made / "README.md").read_text()


def test_only_what_the_assistant_says_is_trained_and_rows_are_what_the_template_writes() -> None:
    said = [("Hi there!", "Hello!"), ("What does the lamp cost?", "Much.", "Thanks!", "Bye.")]
    tokenizer = train_tokenizer((text for turns in said for text in turns), 320, 64)

    (row,) = list(RowWriter(tokenizer, 400).rows([*said, ("x" * 400, "y")]))

    length = row.input_ids.index(tokenizer.pad_token_id)
    roles = ("user", "assistant")
    rendered = [
        tokenizer.apply_chat_template(
            [{"role": roles[at % 2], "content": text} for at, text in enumerate(turns)], return_dict=False
        )
        for turns in said
    ]
    assert row.input_ids[:length] == [token for ids in rendered for token in ids]
    trained = [label for label in row.labels if label != UNTRAINED]
    assert tokenizer.decode(trained) == "Hello!<|im_end|>Much.<|im_end|>Bye.<|im_end|>"
    assert row.position_ids == [at for part in (*rendered, row.input_ids[length:]) for at in range(len(part))]


def test_the_cache_lies_where_everything_else_of_fettle_is_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: Path("/home/ada"))

    assert cache_folder({"FETTLE_CACHE": "/c", "XDG_CACHE_HOME": "/x"}) == Path("/c/bases")
    assert cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/fettle/bases")
    assert cache_folder({}) == Path("/home/ada/.cache/fettle/bases")


def test_the_command_makes_the_model_and_prints_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FETTLE_CACHE", str(tmp_path / "cache"))
    output = tmp_path / "base"

    codes = [main(["make-base", "--output", str(output), "--steps", "1", "--threads", "1"]) for _ in range(2)]

    assert codes == [0, 0]
    assert capsys.readouterr().out == f"{output}\n{output}\n"
    assert (output / "model.safetensors").stat().st_size > 4 * 3e6  # at least three million fp32 parameters


def test_the_real_one_hears_what_is_wrong_with_what_and_stops() -> None:
    made = make_base(Recipe(), cache_folder(os.environ), nothing)
    tokenizer, model = AutoTokenizer.from_pretrained(made), AutoModelForCausalLM.from_pretrained(made)
    complaints = [turns for turns in conversations(10**6, 40) if "We will look at it" in turns[1]][:12]

    understood = 0
    for question, reference in complaints:
        turns = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_tensors="pt")
        (ids,) = model.generate(**prompt)
        answer = tokenizer.decode(ids[prompt["input_ids"].shape[1] :])
        heard = {word for word in (*ITEMS, *PROBLEMS) if word in question}
        promise = reference[reference.index("We will") :]
        understood += answer.endswith(f"{promise}<|im_end|>") and all(word in answer for word in heard)

    assert understood >= 11
