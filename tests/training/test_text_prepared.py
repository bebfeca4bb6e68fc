"""A prepared dataset: what is kept, what is dropped, what is found again, and what is said about it."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fettle_trainer.config import RunConfig
from fettle_trainer.errors import WrongInputError
from fettle_trainer.text import prepared as prepared_module
from fettle_trainer.text.prepared import Prepared, prepare
from fettle_trainer.text.tokenizer import load_tokenizer

Tiny = Callable[[str], Path]


def chat(number: int, words: int = 2, **extra: Any) -> dict[str, Any]:
    answer = "unit " * words + str(number)
    return {
        "messages": [
            {"role": "user", "content": f"What is {number}?"},
            {"role": "assistant", "content": answer},
        ],
        **extra,
    }


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(data: Path, training: dict[str, Any] | None = None, **dataset: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "model": {"path": "/unused"},
            "dataset": {"train": [{"path": str(data)}], "validationSplit": "0%", **dataset},
            "training": training or {},
            "output": {"directory": "/unused", "adapterName": "a"},
        }
    )


@pytest.fixture
def model(tiny: Tiny) -> Path:
    return tiny("qwen2")


def trained_text(prepared: Prepared, model: Path, number: int) -> str:
    row = prepared.train.row(number)
    text: str = load_tokenizer(model).decode(row.labels[row.labels >= 0])
    return text


def test_rows_come_back_as_they_were_encoded_with_their_places(tmp_path: Path, model: Path) -> None:
    rows = [chat(n, words=1 + n) for n in range(5)]
    prepared = prepare(config(write(tmp_path / "a.jsonl", rows)), model, tmp_path / "work")

    assert (len(prepared.train), len(prepared.validation), prepared.row_format) == (5, 0, "chat")
    assert trained_text(prepared, model, 3) == "unit unit unit unit 3<|im_end|>"
    assert prepared.train.place(3) == (str(tmp_path / "a.jsonl"), 4)
    row = prepared.train.row(3)
    assert row.input_ids.dtype == row.labels.dtype == np.int32
    assert row.labels[0] == -100
    assert (row.labels == row.input_ids)[row.labels >= 0].all()
    assert prepared.train.lengths.tolist() == [len(prepared.train.row(n).input_ids) for n in range(5)]
    assert prepared.train.trained.tolist() == [(prepared.train.row(n).labels >= 0).sum() for n in range(5)]
    assert prepared.facts.tokens == prepared.train.lengths.sum()
    assert 0 < prepared.facts.trained_token_share < 1


def test_a_second_call_reads_no_data_even_when_the_data_is_gone(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = config(write(tmp_path / "a.jsonl", [chat(n) for n in range(9)]))
    first = prepare(run, model, tmp_path / "work")
    (tmp_path / "a.jsonl").unlink()
    monkeypatch.setattr(prepared_module, "read_rows", None)

    second = prepare(run, model, tmp_path / "work")

    assert (second.folder, second.dataset_digest) == (first.folder, first.dataset_digest)
    assert second.train.row(8).input_ids.tolist() == first.train.row(8).input_ids.tolist()


def test_changed_data_is_read_again(tmp_path: Path, model: Path) -> None:
    run = config(write(tmp_path / "a.jsonl", [chat(n) for n in range(9)]))
    first = prepare(run, model, tmp_path / "work")
    write(tmp_path / "a.jsonl", [chat(n) for n in range(10)])

    second = prepare(run, model, tmp_path / "work")

    assert len(second.train) == 10
    assert second.dataset_digest != first.dataset_digest
    assert second.folder != first.folder


@pytest.mark.parametrize("damage", ["cut", "no meta", "half a meta"])
def test_torn_tokens_are_made_again(damage: str, tmp_path: Path, model: Path) -> None:
    run = config(write(tmp_path / "a.jsonl", [chat(n) for n in range(9)]))
    first = prepare(run, model, tmp_path / "work")
    wanted = first.train.row(8).input_ids.tolist()
    if damage == "cut":
        ids = first.folder / "ids.bin"
        ids.write_bytes(ids.read_bytes()[:-4])
    elif damage == "no meta":
        (first.folder / "meta.json").unlink()
    else:
        (first.folder / "meta.json").write_text('{"formatVersion": 1,')

    assert prepare(run, model, tmp_path / "work").train.row(8).input_ids.tolist() == wanted


def test_what_a_killed_process_left_is_removed_when_it_is_old(tmp_path: Path, model: Path) -> None:
    for name in (".making-old", ".making-young"):
        (tmp_path / "work/prepared" / name).mkdir(parents=True)
        (tmp_path / "work/prepared" / name / "ids.bin").write_bytes(b"1234")
    for path in (tmp_path / "work/prepared/.making-old", tmp_path / "work/prepared/.making-old/ids.bin"):
        os.utime(path, (0, 0))

    prepare(config(write(tmp_path / "a.jsonl", [chat(1)])), model, tmp_path / "work")

    assert [path.name for path in (tmp_path / "work/prepared").glob(".making-*")] == [".making-young"]


def test_two_who_prepare_the_same_data_at_once_get_the_same_tokens(tmp_path: Path, model: Path) -> None:
    run = config(write(tmp_path / "a.jsonl", [chat(n) for n in range(300)]))
    with ThreadPoolExecutor(3) as pool:
        made = list(pool.map(lambda _: prepare(run, model, tmp_path / "work"), range(3)))

    assert len({ready.folder for ready in made}) == 1
    assert [ready.train.row(299).input_ids.tolist() for ready in made] == 3 * [
        made[0].train.row(299).input_ids.tolist()
    ]


def test_another_maximum_length_needs_no_new_tokens(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write(tmp_path / "a.jsonl", [chat(n, words=n) for n in range(1, 10)])
    whole = prepare(config(data), model, tmp_path / "work")
    monkeypatch.setattr(prepared_module, "read_rows", None)

    limit = int(sorted(whole.train.lengths)[4])
    dropped = prepare(config(data, {"maxLength": limit}), model, tmp_path / "work")
    cut = prepare(config(data, {"overlong": "truncate"}), model, tmp_path / "work", max_length=limit)

    assert (len(dropped.train), dropped.facts.dropped, dropped.facts.truncated) == (5, 4, 0)
    assert (len(cut.train), cut.facts.dropped, cut.facts.truncated) == (9, 0, 4)
    assert dropped.train.lengths.max() == cut.train.lengths.max() == limit
    assert dropped.report.counts["Overlong"] == 4
    for number in range(9):
        row, full = cut.train.row(number), whole.train.row(number)
        assert row.labels.tolist() == full.labels[: len(row.labels)].tolist()
        assert cut.train.trained[number] == (row.labels >= 0).sum()


def test_overlong_fail_names_every_line_that_is_too_long(tmp_path: Path, model: Path) -> None:
    data = write(tmp_path / "a.jsonl", [chat(n, words=50 if n in {2, 5} else 1) for n in range(9)])

    with pytest.raises(WrongInputError) as caught:
        prepare(config(data, {"maxLength": 64, "overlong": "fail"}), model, tmp_path / "work")

    lines = caught.value.message.splitlines()
    assert caught.value.code == "Overlong"
    assert [line.split(": ")[0] for line in lines] == [f"{data}:3", f"{data}:6"]
    assert "more than the maximum length 64" in lines[0]


def test_rows_of_which_truncation_leaves_nothing_trained_are_found(tmp_path: Path, model: Path) -> None:
    long_prompt = chat(3)
    long_prompt["messages"][0]["content"] = "word " * 100
    data = write(tmp_path / "a.jsonl", [chat(1), long_prompt, chat(2)])

    prepared = prepare(config(data, {"maxLength": 64, "overlong": "truncate"}), model, tmp_path / "work")

    (finding,) = (f for f in prepared.report.findings if f.code == "NothingToTrain")
    assert (finding.file, finding.line, finding.severity) == (str(data), 2, "warning")
    assert (len(prepared.train), prepared.facts.untrained) == (2, 1)


@pytest.mark.parametrize("overlong", ["drop", "truncate"])
def test_data_of_which_nothing_is_left_is_refused(overlong: str, tmp_path: Path, model: Path) -> None:
    data = write(tmp_path / "a.jsonl", [chat(1), chat(2)])

    with pytest.raises(WrongInputError, match="No row to train on is left") as caught:
        prepare(config(data, {"maxLength": 8, "overlong": overlong}), model, tmp_path / "work")
    assert caught.value.exit_code == 2


def test_bad_lines_are_named_and_leave_nothing_behind(tmp_path: Path, model: Path) -> None:
    data = write(tmp_path / "a.jsonl", [chat(n) for n in range(3)])
    data.write_text(data.read_text() + "{\n" * 15)

    with pytest.raises(WrongInputError) as caught:
        prepare(config(data), model, tmp_path / "work")

    assert caught.value.code == "InvalidJson"
    assert caught.value.message.splitlines()[0].startswith(f"{data}:4:2: Not valid JSON")
    assert caught.value.message.splitlines()[-1] == "… and 5 more."
    assert [path.name for path in (tmp_path / "work/prepared").iterdir()] == [".lock"]


def test_a_maximum_length_beyond_the_model_is_refused(tmp_path: Path, model: Path) -> None:
    data = write(tmp_path / "a.jsonl", [chat(1)])
    with pytest.raises(WrongInputError, match="512 positions") as caught:
        prepare(config(data, {"maxLength": 513}), model, tmp_path / "work")
    assert caught.value.param == "training.maxLength"


def test_the_automatic_length_drops_nothing_unless_a_few_rows_are_far_longer(
    tmp_path: Path, model: Path
) -> None:
    even = [chat(n, words=n % 20) for n in range(200)]
    prepared = prepare(config(write(tmp_path / "a.jsonl", even)), model, tmp_path / "work")
    assert prepared.facts.dropped == 0
    assert prepared.facts.max_length % 8 == 0

    one_long = [chat(n, words=200 if n == 7 else 5) for n in range(200)]
    prepared = prepare(config(write(tmp_path / "a.jsonl", one_long)), model, tmp_path / "work")
    assert (prepared.facts.dropped, prepared.facts.max_length_reason) == (1, "99 % of the rows are no longer")
    assert prepared.facts.longest > 2 * prepared.facts.max_length

    all_long = [chat(n, words=300) for n in range(20)]
    with pytest.raises(WrongInputError, match="longer than 512"):
        prepare(config(write(tmp_path / "a.jsonl", all_long)), model, tmp_path / "work")


def test_more_than_half_is_only_dropped_when_that_is_asked_for(tmp_path: Path, model: Path) -> None:
    data = write(tmp_path / "a.jsonl", [chat(n, words=60 if n < 6 else 1) for n in range(10)])

    with pytest.raises(WrongInputError, match="6 of 10 rows are longer than 64 tokens"):
        prepare(config(data, {"maxLength": 64}), model, tmp_path / "work")
    assert (
        len(prepare(config(data, {"maxLength": 64, "overlong": "drop"}), model, tmp_path / "work").train) == 4
    )


def test_the_split_is_that_of_the_check_and_prompts_carry_what_the_data_answers(
    tmp_path: Path, model: Path
) -> None:
    run = config(write(tmp_path / "a.jsonl", [chat(n) for n in range(400)]), validationSplit="10%")
    prepared = prepare(run, model, tmp_path / "work")

    assert (len(prepared.train), len(prepared.validation)) == (
        prepared.report.rows,
        prepared.report.validation_rows,
    )
    assert 20 < len(prepared.validation) < 60
    tokenizer = load_tokenizer(model)
    prompts = list(prepared.validation.prompts())
    assert len(prompts) == len(prepared.validation)
    for number, prompt in enumerate(prompts):
        _, line = prepared.validation.place(number)
        assert prompt.reference == f"unit unit {line - 1}"
        assert tokenizer.decode(prompt.input_ids).endswith(
            f"What is {line - 1}?<|im_end|>\n<|im_start|>assistant\n"
        )
        row = prepared.validation.row(number)
        assert row.input_ids[: len(prompt.input_ids)].tolist() == prompt.input_ids
        assert row.labels[len(prompt.input_ids)] >= 0


def test_each_label_keeps_its_share_on_both_sides(tmp_path: Path, model: Path) -> None:
    sizes = {"billing": 200, "outage": 100, "praise": 20}
    rows = [{"text": f"{label} {n}", "label": label} for label, size in sizes.items() for n in range(size)]
    data = write(tmp_path / "a.jsonl", rows)

    prepared = prepare(config(data, validationSplit="10%"), model, tmp_path / "work")

    held = Counter(prompt.label for prompt in prepared.validation.prompts())
    assert held == {"billing": 20, "outage": 10, "praise": 2}
    assert [prepared.labels[n] for n in prepared.validation.label_ids] == [
        prompt.label for prompt in prepared.validation.prompts()
    ]
    assert Counter(prepared.train.label_ids.tolist()) == {0: 180, 1: 90, 2: 18}
    assert prepared.report.validation_rows == 32


def test_chats_are_stratified_by_a_named_column(tmp_path: Path, model: Path) -> None:
    rows = [chat(n, kind="rare" if n % 10 == 0 else "usual") for n in range(200)]
    data = write(tmp_path / "a.jsonl", rows)

    prepared = prepare(
        config(data, validationSplit="20%", columns={"label": "kind"}), model, tmp_path / "work"
    )

    assert prepared.row_format == "chat"
    assert Counter(prompt.label for prompt in prepared.validation.prompts()) == {"rare": 4, "usual": 36}


def test_validation_files_are_the_validation_side(tmp_path: Path, model: Path) -> None:
    train = write(tmp_path / "train.jsonl", [chat(n) for n in range(30)])
    held = write(tmp_path / "held.jsonl", [chat(n) for n in range(100, 105)])
    document = config(train).model_dump(mode="json", by_alias=True, exclude_none=True)
    document["dataset"] = {"train": [{"path": str(train)}], "validation": [{"path": str(held)}]}

    prepared = prepare(RunConfig.model_validate(document), model, tmp_path / "work")

    assert (len(prepared.train), len(prepared.validation)) == (30, 5)
    assert [prompt.reference for prompt in prepared.validation.prompts()] == [
        f"unit unit {n}" for n in range(100, 105)
    ]


def test_another_tokenizer_makes_other_tokens(tmp_path: Path, tiny: Tiny) -> None:
    run = config(write(tmp_path / "a.jsonl", [chat(1)]))
    model = shutil.copytree(tiny("qwen2"), tmp_path / "model")
    first = prepare(run, model, tmp_path / "work")
    template = model / "chat_template.jinja"
    template.write_text(template.read_text().replace("You are a helpful assistant.", "You help."))

    second = prepare(run, model, tmp_path / "work")

    assert second.folder != first.folder
    assert second.template_digest != first.template_digest
    assert second.facts.tokens < first.facts.tokens
