"""Collecting findings: every one counted, the most telling ones kept."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import TYPE_CHECKING, Final, Literal

from fettle_trainer.config.dataset_report import MAX_FINDINGS, Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fettle_trainer.config.dataset_report import FindingCode

_MAX_OF_A_CODE: Final = 20
"""So that one mistake made everywhere does not hide the others."""
_MESSAGE: Final = 512
_FIELD: Final = 128


class Findings:
    """The findings of one check, in the order in which they were met."""

    def __init__(self) -> None:
        self.counts: Counter[FindingCode] = Counter()
        self._kept: list[Finding] = []

    @property
    def kept(self) -> tuple[Finding, ...]:
        """The listed findings: errors before warnings."""
        return merged(self._kept)

    def count(self, code: FindingCode, total: int) -> None:
        """Set how often a code was found, when more was found than was added."""
        if total:
            self.counts[code] = total

    def add(  # noqa: PLR0913 - the fields of a finding
        self,
        code: FindingCode,
        message: str,
        *,
        severity: Literal["error", "warning"] = "error",
        file: str = "",
        line: int | None = None,
        column: int | None = None,
        field: str = "",
    ) -> None:
        """Count a finding and list it while there is room."""
        self.counts[code] += 1
        if self.counts[code] <= _MAX_OF_A_CODE:
            self._kept.append(
                Finding(
                    code=code,
                    severity=severity,
                    message=_printable(message, _MESSAGE),
                    file=_printable(file, _MESSAGE),
                    line=line,
                    column=column,
                    field=_printable(field, _FIELD),
                )
            )


def merged(*parts: Sequence[Finding]) -> tuple[Finding, ...]:
    """Return as many findings as are listed: errors before warnings, otherwise in their order."""
    errors_first = sorted(chain(*parts), key=lambda finding: finding.severity != "error")
    return tuple(errors_first[:MAX_FINDINGS])


def _printable(text: str, limit: int) -> str:
    """Foreign names may hold anything; a report is UTF-8 on one line."""
    safe = text.encode("utf-8", "backslashreplace").decode("utf-8")
    safe = "".join(character if character.isprintable() else f"\\x{ord(character):02x}" for character in safe)
    return safe if len(safe) <= limit else safe[: limit - 1] + "…"
