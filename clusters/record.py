"""Remembers which clusters were created here, so that no other one is ever touched unasked."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clusters.choice import Target


def state_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of what this program must remember between two runs."""
    if base := environ.get("XDG_STATE_HOME"):
        return Path(base) / "fettle"
    return Path(environ.get("HOME", "/root")) / ".local" / "state" / "fettle"


@dataclass(frozen=True)
class Created:
    """One cluster that was created here and not yet removed."""

    target: Target
    identity: str


class Record:
    """The file with the clusters that were created here."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clusters.json"

    def read(self) -> list[Created]:
        """Return all clusters that were created and not yet removed."""
        if not self._file.exists():
            return []
        return [Created(**entry) for entry in json.loads(self._file.read_text())]

    def add(self, created: Created) -> None:
        """Remember a cluster, in place of an earlier one of its kind."""
        self._write([*self._without(created.target), created])

    def remove(self, target: Target) -> None:
        """Forget the cluster of this kind."""
        self._write(self._without(target))

    def _without(self, target: Target) -> list[Created]:
        return [entry for entry in self.read() if entry.target != target]

    def _write(self, entries: list[Created]) -> None:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._file.with_suffix(f".{os.getpid()}")
        fresh.write_text(json.dumps([asdict(entry) for entry in entries], indent=2))
        fresh.replace(self._file)
