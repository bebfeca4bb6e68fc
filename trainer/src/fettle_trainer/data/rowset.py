"""All rows of a dataset by hash, to find those that stand there twice, in memory that does not grow with them.

Hashes are sorted into buckets; when too many are held, the buckets go to temporary files. Each bucket is then small
enough to be looked through on its own.
"""

from __future__ import annotations

import struct
import tempfile
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from fettle_trainer.data.rowhash import HASH_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

_BUCKETS: Final = 256
_HELD_BYTES: Final = 32 * 2**20
_ENTRY: Final = struct.Struct(f"<{HASH_BYTES}sQH")
_LINE_BITS: Final = 40
_VALIDATION: Final = 1 << 63


class Place(NamedTuple):
    """Where a row stands."""

    validation: bool
    file: int
    line: int
    label: int = 0


class Repetition(NamedTuple):
    """A row and the one that it repeats."""

    place: Place
    first: Place


class RowSet:
    """Collects rows, then yields the repeated ones."""

    def __init__(self, *, held_bytes: int = _HELD_BYTES) -> None:
        self._held_bytes = held_bytes
        self._held = 0
        self._buckets = [bytearray() for _ in range(_BUCKETS)]
        self._files: list[IO[bytes] | None] = [None] * _BUCKETS

    def add(self, row: bytes, place: Place) -> None:
        """Remember one row."""
        packed = (place.file << _LINE_BITS) | place.line | (_VALIDATION if place.validation else 0)
        self._buckets[row[-1]] += _ENTRY.pack(row, packed, place.label)
        self._held += _ENTRY.size
        if self._held > self._held_bytes:
            self._spill()

    def hashes(self) -> Iterator[tuple[bytes, Place]]:
        """Yield every row, in no particular order."""
        for data in self._contents():
            for row, packed, label in _ENTRY.iter_unpack(data):
                yield row, _place(packed, label)

    def repetitions(self) -> Iterator[Repetition]:
        """Yield every row that stands earlier already; for a validation row a training row counts first."""
        for data in self._contents():
            first: dict[bytes, int] = {}
            for wanted in (0, _VALIDATION):
                for row, packed, _ in _ENTRY.iter_unpack(data):
                    if packed & _VALIDATION == wanted:
                        earlier = first.setdefault(row, packed)
                        if earlier != packed:
                            yield Repetition(_place(packed), _place(earlier))

    def close(self) -> None:
        """Give the temporary files back."""
        for file in self._files:
            if file is not None:
                file.close()

    def _spill(self) -> None:
        for number, bucket in enumerate(self._buckets):
            file = self._files[number]
            if file is None:
                file = self._files[number] = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed in close()
            file.write(bucket)
            bucket.clear()
        self._held = 0

    def _contents(self) -> Iterator[bytes]:
        """Yield the content of each bucket that has one."""
        for bucket, file in zip(self._buckets, self._files, strict=True):
            if file is not None:
                file.seek(0)
                yield file.read() + bucket
            elif bucket:
                yield bytes(bucket)


def _place(packed: int, label: int = 0) -> Place:
    number = packed & ~_VALIDATION
    line = number & ((1 << _LINE_BITS) - 1)
    return Place(bool(packed & _VALIDATION), number >> _LINE_BITS, line, label)
