"""How fast `check` reads a dataset, and how much memory that takes: files of two sizes, and rows that are hard on it.

`$(scripts/model_venv.sh) benchmarks/trainer/check.py` prints a table. Every line is one process from its start to its
end, as a user runs it.
"""

# ruff: noqa: INP001, T201 - a program for people, no package

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent
MEGABYTE = 10**6
WORDS = [
    "the",
    "a",
    "pod",
    "node",
    "runs",
    "every",
    "question",
    "answer",
    "is",
    "of",
    "to",
    "and",
    "in",
    "that",
    "it",
]
HAN = [chr(code) for code in range(0x4E00, 0x9FA5)]
LONGEST_ROW = 1_900_000
"""Chinese characters: just within the 6 MiB that a row may be long."""


class Case(NamedTuple):
    """One file to check."""

    name: str
    megabytes: int
    answer: Callable[[random.Random], str]
    tokens: bool


CASES = (
    Case("chats", 20, lambda dice: _words(dice, 150), tokens=False),
    Case("chats", 200, lambda dice: _words(dice, 150), tokens=False),
    Case("chats", 20, lambda dice: _words(dice, 150), tokens=True),
    Case("chats", 60, lambda dice: _words(dice, 150), tokens=True),
    Case("Chinese chats", 10, lambda dice: _han(dice, 600), tokens=True),
    Case("Chinese rows of 60,000 characters", 10, lambda dice: _han(dice, 60_000), tokens=True),
    Case("Chinese rows of 1.9 million characters", 17, lambda dice: _han(dice, LONGEST_ROW), tokens=True),
)


def main() -> None:
    """Measure, and print what was seen."""
    print(f"{os.cpu_count()} cores, load {os.getloadavg()}\n")
    print("| file | MB | tokenised | seconds | MB/s | peak MiB |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="fettle-check-benchmark-") as scratch:
        folder = Path(scratch)
        _write_tokenizer(folder / "model")
        for case in CASES:
            _measure(case, folder)


def _measure(case: Case, folder: Path) -> None:
    data, run = folder / "data.jsonl", folder / "run.json"
    size = _write_rows(data, case)
    model = folder / "model" if case.tokens else folder / "none"
    document = {
        "model": {"path": str(model)},
        "dataset": {"train": [{"path": str(data)}]},
        "training": {"overlong": "truncate"},
        "output": {"directory": str(folder / "store"), "adapterName": "benchmark"},
    }
    run.write_text(json.dumps(document))
    command = [
        sys.executable,
        "-m",
        "fettle_trainer",
        "check",
        str(run),
        "--report",
        str(folder / "report.json"),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "trainer/src"), "HF_HUB_OFFLINE": "1"}
    began = time.monotonic()
    with (folder / "said").open("wb") as said:
        child = subprocess.Popen(command, env=environment, stderr=said)
        _, status, usage = os.wait4(child.pid, 0)
    seconds = time.monotonic() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit((folder / "said").read_text())
    peak = usage.ru_maxrss / 1024
    rate = size / MEGABYTE / seconds
    print(
        f"| {case.name} | {size / MEGABYTE:.0f} | {'yes' if case.tokens else 'no'} | {seconds:.1f} | {rate:.1f} "
        f"| {peak:.0f} |",
        flush=True,
    )


def _write_rows(path: Path, case: Case) -> int:
    dice, size = random.Random(case.name), 0  # noqa: S311 - rows to read, nothing secret
    with path.open("w") as file:
        while size < case.megabytes * MEGABYTE:
            turns = [("user", _words(dice, 12)), ("assistant", case.answer(dice))]
            row = {"messages": [{"role": role, "content": text} for role, text in turns]}
            line = json.dumps(row, ensure_ascii=False) + "\n"
            size += len(line.encode())
            file.write(line)
    return size


def _words(dice: random.Random, count: int) -> str:
    return " ".join(dice.choices(WORDS, k=count))


def _han(dice: random.Random, count: int) -> str:
    return "".join(dice.choices(HAN, k=count))


def _write_tokenizer(folder: Path) -> None:
    program = (
        "import sys; from fettle_trainer.base.tokenizer import train_tokenizer\n"
        "train_tokenizer(sys.argv[2:], 400, 100_000_000).save_pretrained(sys.argv[1])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT / "trainer/src"), "HF_HUB_OFFLINE": "1"}
    subprocess.run([sys.executable, "-c", program, folder, *WORDS], env=environment, check=True)


if __name__ == "__main__":
    main()
