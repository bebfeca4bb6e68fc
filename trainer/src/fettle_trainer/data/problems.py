"""What readers and formats hand on: a row, or what is wrong with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from fettle_trainer.config.dataset_report import FindingCode


class Row(NamedTuple):
    """One object as it stands in a file."""

    line: int
    value: dict[str, Any]


class BadRow(NamedTuple):
    """One row that cannot be used."""

    line: int
    code: FindingCode
    message: str
    column: int | None = None
    field: str = ""


class DataFileError(Exception):
    """A whole file that cannot be read, or not to its end."""

    def __init__(self, code: FindingCode, message: str, *, name: str = "", line: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.name = name
        self.line = line
