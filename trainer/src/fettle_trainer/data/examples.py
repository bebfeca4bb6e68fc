"""A row as it is understood: who says what, and which of it is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

if TYPE_CHECKING:
    from fettle_trainer.config.dataset_report import FindingCode


class Turn(NamedTuple):
    """A piece of text; `role` is empty where the format knows no speakers."""

    role: str
    text: str
    trained: bool
    calls: Any = None
    """The tool calls of an assistant's turn, as they stand in the file."""
    name: str | None = None
    call_id: str | None = None
    """Which call a tool's turn answers; some chat templates ask for it."""


class Example(NamedTuple):
    """One row to train on."""

    turns: tuple[Turn, ...]
    label: str | None = None
    tools: Any = None


class RowError(Exception):
    """The row is not what its format asks for."""

    def __init__(self, code: FindingCode, field: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.field = field
        self.message = message


Interpreter = Callable[[dict[str, Any]], Example]
"""Understands a row's value, or raises RowError."""


def refuse(code: FindingCode, field: str, message: str) -> NoReturn:
    """Stop understanding the row."""
    raise RowError(code, field, message)
