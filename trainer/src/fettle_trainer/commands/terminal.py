"""The two places where a command may speak."""

from __future__ import annotations

import sys


def answer(text: str) -> None:
    """Print the result itself, which a script may read."""
    sys.stdout.write(text + "\n")


def tell(text: str) -> None:
    """Print a sentence for the person who looks on."""
    sys.stderr.write(text + "\n")
