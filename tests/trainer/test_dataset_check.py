"""The check of a dataset over several files: sources, split, repetitions, limits, and the command."""

from __future__ import annotations

import json
import os
import random
from typing import TYPE_CHECKING, Any

import pytest

from dataset_checks import check, codes
from dataset_corpus import CORPUS
from dataset_damage import damaged
from fettle_trainer.__main__ import main
from fettle_trainer.config import DatasetReport
from fettle_trainer.config.dataset_report import MAX_FINDINGS
from fettle_trainer.data import reading
from fettle_trainer.data.rowset import Place, RowSet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def texts(path: Path, numbers: Iterator[int] | range, **extra: Any) -> Path:
    path.write_text("".join(json.dumps({"text": f"text {n}", **extra}) + "\n" for n in numbers))
    return path


def test_a_glob_and_a_folder_mean_all_their_data_files(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    texts(tmp_path / "a.jsonl", range(10))
    texts(tmp_path / "sub/b.jsonl", range(10, 30))
    (tmp_path / "README.md").write_text("no data")

    assert check(tmp_path, validationSplit="0%").rows == 10
    assert check(tmp_path / "**/*.jsonl", validationSplit="0%").rows == 30
    assert [file.rows for file in check(tmp_path / "*" / "?.jsonl").files] == [20]


def test_a_mounted_config_map_is_read_through_its_links(tmp_path: Path) -> None:
    (tmp_path / "..2026").mkdir()
    texts(tmp_path / "..2026/train.jsonl", range(3))
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "train.jsonl").symlink_to("..data/train.jsonl")

    report = check(train=[{"path": str(tmp_path), "root": str(tmp_path)}])

    assert (report.passed, report.rows) == (True, 3)


def link_out(root: Path, outside: Path) -> str:
    (root / "x.jsonl").symlink_to(outside)
    return "x.jsonl"


def link_folder_out(root: Path, outside: Path) -> str:
    (root / "x").symlink_to(outside.parent)
    return f"x/{outside.name}"


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (link_out, "FileOutsideRoot"),
        (link_folder_out, "FileOutsideRoot"),
        (lambda _, outside: f"../{outside.name}", "FileOutsideRoot"),
        (lambda _, outside: str(outside), "FileOutsideRoot"),
        (lambda root, _: (root / "x.jsonl").symlink_to("x.jsonl") or "x.jsonl", "FileUnreadable"),
        (lambda root, _: (root / "x.jsonl").symlink_to("missing") or "x.jsonl", "FileMissing"),
        (lambda root, _: os.mkfifo(root / "x.jsonl") or "x.jsonl", "FileNotRegular"),
        (lambda root, _: (root / "x.jsonl").mkdir() or "x.jsonl", "FileMissing"),
        (lambda root, _: os.truncate(texts(root / "x.jsonl", range(1)), 10**12) or "x.jsonl", "FileMalformed"),
        (lambda *_: "missing.jsonl", "FileMissing"),
        (lambda *_: "*.jsonl", "FileMissing"),
        (lambda *_: "a\0b.jsonl", "FileUnreadable"),
        (lambda *_: "x" * 300 + ".jsonl", "FileUnreadable"),
    ],
)  # fmt: skip
def test_a_path_that_is_no_data_file_is_found(
    make: Callable[[Path, Path], str], code: str, tmp_path: Path
) -> None:
    root = tmp_path / "mount"
    root.mkdir()
    outside = texts(tmp_path / "outside.jsonl", range(3))
    path = make(root, outside)

    report = check(train=[{"path": str(root / path), "root": str(root)}])

    assert (report.passed, codes(report)) == (False, [code])
    assert report.rows == 0


def test_a_file_that_grows_while_it_is_read_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = texts(tmp_path / "a.jsonl", range(5))
    read_jsonl = reading._TEXT_READERS["jsonl"]

    def while_somebody_writes(source: Any) -> Iterator[Any]:
        yield from read_jsonl(source)
        texts(path, range(6))

    monkeypatch.setitem(reading._TEXT_READERS, "jsonl", while_somebody_writes)

    assert codes(check(path)) == ["FileChanged"]


def test_one_bad_file_does_not_hide_the_others(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("{\n")
    (tmp_path / "b.csv").write_text("text\n")
    texts(tmp_path / "c.json", range(40))
    (tmp_path / "d.jsonl.gz").write_text("no gzip")

    report = check(tmp_path, validationSplit="0%")

    assert codes(report) == ["InvalidJson", "CompressionBroken"]
    assert [file.rows for file in report.files] == [0, 0, 40, 0]
    assert report.bad_rows == 1


def test_bad_rows_are_allowed_up_to_their_number(tmp_path: Path) -> None:
    path = texts(tmp_path / "a.jsonl", range(30))
    path.write_text(path.read_text() + "{\n{\n")

    assert not check(path, maxBadRows=1).passed
    assert check(path, maxBadRows=2).passed


def test_counts_are_exact_however_many_findings_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("{\n" * 3000 + '{"text": ""}\n' * 2000 + '{"text": 1}\n' * 1000 + "[]\n" * 500)

    report = check(path)

    assert report.bad_rows == 6500
    assert report.counts == {"InvalidJson": 3000, "EmptyText": 2000, "WrongType": 1000, "NotAnObject": 500}
    assert len(report.findings) == MAX_FINDINGS
    assert {"InvalidJson", "EmptyText", "WrongType"} <= set(codes(report))


def test_a_row_goes_to_validation_by_its_content_alone(tmp_path: Path) -> None:
    small = check(texts(tmp_path / "a.jsonl", range(1000)), validationSplit="10%")
    large = check(texts(tmp_path / "a.jsonl", range(2000)), validationSplit="10%")

    assert 60 < small.validation_rows < 140
    assert small.validation_rows < large.validation_rows < small.validation_rows + 140
    assert small.rows + small.validation_rows == 1000


@pytest.mark.parametrize(
    ("rows", "settings", "least", "most"),
    [
        (19, {}, 0, 0),
        (2000, {}, 60, 140),
        (30_000, {}, 900, 1100),
        (2000, {"validationSplit": "0%"}, 0, 0),
        (2000, {"validationSplit": "50%"}, 900, 1100),
    ],
)
def test_the_split_is_as_large_as_it_says(
    rows: int, settings: dict[str, Any], least: int, most: int, tmp_path: Path
) -> None:
    assert least <= check(texts(tmp_path / "a.jsonl", range(rows)), **settings).validation_rows <= most


def test_data_of_which_all_is_held_back_does_not_pass(tmp_path: Path) -> None:
    reports = [check(texts(tmp_path / "a.jsonl", range(n, n + 1)), validationSplit="50%") for n in range(20)]

    assert {(report.rows, report.passed, *codes(report)) for report in reports} == {
        (1, True),
        (0, False, "NoRows"),
    }


def test_rows_that_are_trained_on_and_validated_are_found(tmp_path: Path) -> None:
    train = texts(tmp_path / "train.jsonl", range(20))
    held = texts(tmp_path / "held.jsonl", range(15, 25))

    report = check(train, validation=[{"path": str(held)}])

    assert (report.rows, report.validation_rows, report.leaked_rows, report.passed) == (20, 10, 5, True)
    leak = report.findings[0]
    assert (leak.code, leak.severity, leak.file, leak.line) == ("LeakedRow", "warning", str(held), 1)
    assert (
        leak.message == f"The validation row is trained on too, in line 16 of {train}; it measures nothing."
    )


def test_equal_rows_are_equal_in_every_kind_of_file(tmp_path: Path) -> None:
    rows = [{"prompt": f"q {n}", "completion": f'a, "{n}"\n'} for n in range(3)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "b.json").write_text(json.dumps(rows, indent=2))
    (tmp_path / "c.csv").write_text(
        "completion,prompt\n" + "".join(f'"a, ""{n}""\n",q {n}\n' for n in range(3))
    )

    report = check(tmp_path, validationSplit="0%")

    assert (report.rows, report.duplicate_rows, report.format) == (9, 6, "prompt-completion")
    digests = {check(tmp_path / name, validationSplit="0%").digest for name in ("a.jsonl", "b.json", "c.csv")}
    assert len(digests) == 1


def test_repetitions_are_found_when_the_rows_went_to_disk() -> None:
    rows = RowSet(held_bytes=1000)
    source = random.Random(1)  # noqa: S311 - test data
    names = [source.randbytes(16) for _ in range(500)]
    for number, name in enumerate([*names, *names[:50]]):
        rows.add(name, Place(validation=False, file=0, line=number + 1))

    repetitions = sorted(rows.repetitions())

    assert [(found.place.line, found.first.line) for found in repetitions] == [
        (n + 501, n + 1) for n in range(50)
    ]
    assert sum(1 for _ in rows.hashes()) == 550
    rows.close()


@pytest.mark.parametrize(
    ("training", "steps"),
    [({}, None), ({"maxSteps": 7}, 7), ({"epochs": 2.5, "batchSize": 16}, 16), ({"epochs": 1}, None)],
)
def test_steps_are_predicted_where_the_settings_say_enough(
    training: dict[str, Any], steps: int | None, tmp_path: Path
) -> None:
    path = texts(tmp_path / "a.jsonl", range(100))
    assert check(path, training, validationSplit="0%").predicted_steps == steps


def run_file(folder: Path, **dataset: Any) -> Path:
    path = folder / "run.json"
    document = {
        "model": {"path": "/models/base"},
        "dataset": dataset,
        "output": {"directory": "/store", "adapterName": "a"},
    }
    path.write_text(json.dumps(document))
    return path


def test_the_command_lists_every_bad_line_as_a_compiler_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = texts(tmp_path / "a.jsonl", range(2))
    data.write_text(data.read_text() + '{"text": "x",}\n{"text": 3}\n')
    run = run_file(tmp_path, train=[{"path": str(data)}])

    assert main(["check", str(run), "--report", str(tmp_path / "report.json")]) == 2

    assert capsys.readouterr().err.splitlines() == [
        f"{data}:3:14: error: InvalidJson: Not valid JSON: expecting property name enclosed in double quotes.",
        f"{data}:4: error: WrongType: text: text is not a text.",
        "failed: 2 rows to train on, 0 to validate on, 2 bad.",
    ]
    report = DatasetReport.model_validate_json((tmp_path / "report.json").read_bytes())
    assert (report.rows, report.bad_rows, report.passed) == (2, 2, False)


def test_the_command_prints_the_report_of_good_data(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_file(tmp_path, train=[{"path": str(texts(tmp_path / "a.jsonl", range(40)))}])

    assert main(["check", str(run)]) == 0

    out, err = capsys.readouterr()
    assert DatasetReport.model_validate_json(out).passed
    assert err.startswith("passed: ")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b'{"model": {}, "model": {}}', "stands twice"),
        (b"[]", "the document: "),
        (b'{"model": {"path": "/m"}, "colour": 1}', "colour: "),
    ],
)
def test_a_wrong_configuration_is_refused_with_its_place(
    content: bytes, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)

    assert main(["check", str(path)]) == 2
    assert sentence in capsys.readouterr().err
    assert main(["check", str(tmp_path / "missing.json")]) == 2


def test_no_damage_to_a_data_file_ends_in_a_traceback(tmp_path: Path) -> None:
    """5,000 files made from the corpus by cutting, flipping, doubling, mixing; every finding has its place."""
    source = random.Random(20_260_801)  # noqa: S311 - test data
    originals = [case for case in CORPUS if len(case.content) < 4096 and case.content]
    for number in range(5000):
        case = source.choice(originals)
        path = tmp_path / f"{number}-{case.file}"
        path.write_bytes(damaged(case.content, source.choice(originals).content, source))

        report = check(path, validationSplit="0%", **case.dataset)

        path.unlink()
        assert report.passed == (
            report.rows > 0 and not any(finding.severity == "error" for finding in report.findings)
        )
        assert report.passed or report.findings
        for finding in report.findings:
            assert finding.message.endswith(".")
            assert finding.file == str(path) or finding.code == "NoRows"
            assert finding.line or finding.code in {
                "NoRows",
                "FileEmpty",
                "FileMalformed",
                "FileKindMismatch",
                "FileKindUnknown",
                "CompressionBroken",
                "CompressionBomb",
            }
