"""Tokens on disk: written once, row after row, then read through memory maps.

A folder is complete or it does not count: it is made under another name and renamed when `meta.json`, which tells
how large every file must be, has been written. Nothing of it is ever changed afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

import numpy as np

from fettle_trainer import strict_json
from fettle_trainer.atomic import write_atomically
from fettle_trainer.strict_json import StrictJsonError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fettle_trainer.data.rowset import Place
    from fettle_trainer.text.tokens import EncodedRow

FORMAT_VERSION: Final = 1

ROW: Final = np.dtype(
    [
        ("start", "<i8"),
        ("length", "<i4"),
        ("trained", "<i4"),
        ("prompt", "<i4"),
        ("label", "<i4"),
        ("file", "<i4"),
        ("line", "<i8"),
        ("number", "<u8"),
        ("validation", "?"),
    ]
)
"""What is known of a row; `number` is what its hash begins with, `prompt` how many tokens stand before its answer."""

_MAKING: Final = ".making-"
_LEFT_BEHIND_S: Final = 24 * 3600
"""A folder in the making that nobody has written to for so long belongs to a process that was killed."""
_IDS: Final = "ids.bin"
_MASK: Final = "trained.bin"
_ROWS: Final = "rows.bin"
_REFERENCES: Final = "references.jsonl"
_META: Final = "meta.json"


class TokenWriter:
    """Fills a folder beside `target`; `finish` puts it in its place."""

    def __init__(self, target_parent: Path, *, with_ids: bool = True) -> None:
        target_parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(target_parent)
        self.folder = Path(tempfile.mkdtemp(prefix=_MAKING, dir=target_parent))
        self._files: dict[str, IO[bytes]] = {
            name: (self.folder / name).open("wb") for name in (_IDS, _MASK, _ROWS, _REFERENCES)
        }
        self._with_ids = with_ids
        self._tokens = 0
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            with suppress(OSError):  # a full disk is told once, by what ran into it
                file.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, rows: Sequence[tuple[EncodedRow, Place, int]]) -> None:
        """Append rows, each with its place and the number that its hash begins with."""
        entries = []
        for row, place, number in rows:
            length, trained = len(row.input_ids), int(row.trained.sum())
            source = (place.label, place.file, place.line, number, place.validation)
            entries.append((self._tokens, length, trained, row.prompt_length, *source))
            self._tokens += length
        if self._with_ids:
            self._files[_IDS].write(np.concatenate([row.input_ids for row, _, _ in rows]).tobytes())
        self._files[_MASK].write(np.concatenate([row.trained for row, _, _ in rows]).tobytes())
        self._files[_ROWS].write(np.array(entries, dtype=ROW).tobytes())
        self._count += len(rows)

    def refer(self, row: int, reference: str, label: str | None) -> None:
        """Note what the data answers in a row that may be held back."""
        line = json.dumps([row, reference, label], ensure_ascii=False)
        self._files[_REFERENCES].write(line.encode() + b"\n")

    def split(self, bounds: np.ndarray) -> None:
        """Mark the rows that are held back: those whose number lies below their label's bound."""
        for file in self._files.values():
            file.flush()
        if self._count:
            rows = np.memmap(self.folder / _ROWS, dtype=ROW, mode="r+")
            rows["validation"] |= rows["number"] < bounds[rows["label"]]
            rows.flush()

    def finish(self, target: Path, meta: dict[str, Any]) -> None:
        """Flush everything to the disk and give the folder its name."""
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        sizes = {name: (self.folder / name).stat().st_size for name in self._files}
        document = {"formatVersion": FORMAT_VERSION, "sizes": sizes, **meta}
        write_atomically(self.folder / _META, json.dumps(document).encode())
        self.folder.chmod(0o755)
        if target.exists():
            # It was found torn, or it would be used.
            shutil.rmtree(target, ignore_errors=True)
        try:
            self.folder.rename(target)
        except OSError:
            # Several nodes may prepare the same data on one volume; whoever comes second takes what is there.
            if open_store(target) is None:
                raise


class TokenStore:
    """A complete folder, read."""

    def __init__(self, folder: Path, meta: dict[str, Any]) -> None:
        self.folder = folder
        self.meta = meta
        self.rows = _mapped(folder / _ROWS, ROW)
        self._starts = self.rows["start"]
        self._ids = _mapped(folder / _IDS, np.dtype("<i4"))
        self._mask = _mapped(folder / _MASK, np.dtype("?"))

    def ids(self, row: int, length: int) -> np.ndarray:
        """Return a row's first tokens."""
        start = int(self._starts[row])
        return self._ids[start : start + length]

    def mask(self, row: int, length: int) -> np.ndarray:
        """Return which of a row's first tokens are trained."""
        start = int(self._starts[row])
        return self._mask[start : start + length]

    def references(self) -> Iterator[tuple[int, str, str | None]]:
        """Yield the noted rows in order: number, what the data answers, label."""
        with (self.folder / _REFERENCES).open("rb") as file:
            for line in file:
                row, reference, label = json.loads(line)
                yield row, reference, label


def open_store(folder: Path) -> TokenStore | None:
    """Open a folder that is complete; None if it is missing, torn, or of another version."""
    try:
        meta = strict_json.loads((folder / _META).read_bytes())
        sound = meta["formatVersion"] == FORMAT_VERSION and all(
            (folder / name).stat().st_size == size for name, size in meta["sizes"].items()
        )
    except (OSError, StrictJsonError, KeyError, TypeError, AttributeError):
        return None
    return TokenStore(folder, meta) if sound else None


def _remove_leftovers(parent: Path) -> None:
    for folder in parent.glob(f"{_MAKING}*"):
        with suppress(OSError):
            if (
                time.time() - max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
                > _LEFT_BEHIND_S
            ):
                shutil.rmtree(folder, ignore_errors=True)


def _mapped(path: Path, kind: np.dtype) -> np.ndarray:
    # An empty file cannot be mapped.
    return np.memmap(path, dtype=kind, mode="r") if path.stat().st_size else np.zeros(0, dtype=kind)
