"""The two ways in which looking at an adapter ends badly."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fettle_trainer.config.verification import RefusalCode


class AdapterRefusedError(Exception):
    """The adapter is wrong; looking again changes nothing."""

    def __init__(self, code: RefusalCode, message: str, file: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.file = file


class FileChangedError(Exception):
    """A file changed while it was read; looking again may succeed."""

    def __init__(self, file: str) -> None:
        super().__init__(
            f"{file or 'The directory'} changed while it was read; wait until the copy is complete."
        )
        self.file = file
