"""Writes train.jsonl and validation.jsonl: customers' complaints and the tickets that shall be made of them.

Run it with Fettle installed: `python examples/train-on-a-laptop/make_data.py`. What is validated on is never trained
on: two of the shop's goods appear in no training row at all, and the others in none with some of their problems.
"""

# ruff: noqa: INP001 - a program for people, no package

from __future__ import annotations

import json
import random
from pathlib import Path

from fettle_trainer.base.corpus import WISHES, complaint_text
from fettle_trainer.base.world import ITEMS, PROBLEMS

HERE = Path(__file__).parent
TRAINING_ROWS = 800
UNSEEN = ITEMS[::12]


def rows(seed: int = 7) -> tuple[list[str], list[str]]:
    """Return the lines of both files."""
    dice = random.Random(seed)  # noqa: S311 - rows to read, nothing secret
    unseen = [(name, problem) for name in UNSEEN for problem in PROBLEMS]
    pairs = [(name, problem) for name in ITEMS if name not in UNSEEN for problem in PROBLEMS]
    dice.shuffle(pairs)
    held_back, trained = pairs[:80], pairs[80:]
    training = [_row(dice, *dice.choice(trained)) for _ in range(TRAINING_ROWS)]
    validation = [_row(dice, *pair) for pair in held_back + unseen]
    # A customer may say the same twice; a row to learn from stands there once.
    return list(dict.fromkeys(training)), list(dict.fromkeys(validation))


def _row(dice: random.Random, name: str, problem: str) -> str:
    wish = dice.choice(WISHES)
    ticket = f"your {name}: it {problem} [{wish.urgency}]"
    complaint = complaint_text(dice, name, problem, wish)
    messages = [{"role": "user", "content": complaint}, {"role": "assistant", "content": ticket}]
    return json.dumps({"messages": messages}) + "\n"


if __name__ == "__main__":
    train, validation = rows()
    (HERE / "train.jsonl").write_text("".join(train))
    (HERE / "validation.jsonl").write_text("".join(validation))
