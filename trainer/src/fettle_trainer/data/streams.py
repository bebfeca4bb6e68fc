"""Bytes of a data file: decompressed, hashed, bounded, and checked for having stayed the same."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import stat
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol, cast

from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.problems import DataFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fettle_trainer.data.files import DataFile

CHUNK_BYTES: Final = 2**20
MAX_EXPANSION: Final = 200
"""Text compresses ten- to twentyfold; what expands more than this is no text."""
_FREE_EXPANSION_BYTES: Final = 64 * 2**20
"""Small files may expand as they like: a bomb of this size does no harm."""

_BLOCK_BYTES: Final = 512
_XZ_MEMORY_BYTES: Final = 96 * 2**20

_MAGIC: Final = {
    b"PAR1": "Parquet (.parquet)",
    b"\x1f\x8b": "gzip (.gz)",
    b"BZh": "bzip2 (.bz2)",
    b"\xfd7zXZ\x00": "xz (.xz)",
    b"\x28\xb5\x2f\xfd": "zstd, which is not supported; use gzip",
    b"PK\x03\x04": "a zip archive, which is not supported; use gzip",
    b"\x80\x02": "a pickle, which is never read",
    b"\x80\x04": "a pickle, which is never read",
    b"\x80\x05": "a pickle, which is never read",
}
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_BOM: Final = b"\xef\xbb\xbf"


class Source(Protocol):
    """What a reader needs of a stream."""

    def read(self, size: int, /) -> bytes:
        """Return at most so many bytes; none at the end."""


class HashedFile:
    """A regular file that knows, once read to its end, its SHA-256."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.position = 0

    def read(self, size: int = -1, /) -> bytes:
        """Return the next bytes."""
        data = self._file.read(size)
        self._digest.update(data)
        self.position += len(data)
        return data

    def whole(self) -> BinaryIO:
        """Return the file itself, for a reader that seeks; `finish` then hashes from the beginning."""
        return self._file

    def finish(self) -> str:
        """Read what the reader left over and return the digest of the whole file."""
        self._file.seek(self.position)
        while self.read(CHUNK_BYTES):
            pass
        return self._digest.hexdigest()


@contextmanager
def open_data_file(file: DataFile) -> Iterator[HashedFile]:
    """Open the raw bytes; end with FILE_CHANGED if somebody wrote to the file meanwhile."""
    try:
        # O_NONBLOCK: a pipe put in the file's place must not hang the check.
        descriptor = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise DataFileError(
            FindingCode.FILE_UNREADABLE, f"{file.name} cannot be read: {error.strerror}."
        ) from error
    with os.fdopen(descriptor, "rb", buffering=0) as raw:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise DataFileError(FindingCode.FILE_NOT_REGULAR, f"{file.name} is not a regular file.")
        if before.st_size == 0:
            raise DataFileError(FindingCode.FILE_EMPTY, f"{file.name} is empty.")
        if before.st_size > _FREE_EXPANSION_BYTES and before.st_blocks * _BLOCK_BYTES < before.st_size // 2:
            raise DataFileError(
                FindingCode.FILE_MALFORMED, f"{file.name} is a sparse file, mostly holes. Copy it again."
            )
        yield HashedFile(cast("BinaryIO", raw))
        after = os.fstat(descriptor)
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise DataFileError(
                FindingCode.FILE_CHANGED,
                f"{file.name} changed while it was read. Check again when it is complete.",
            )


class TextSource:
    """The decompressed bytes of a text file, without its byte order mark."""

    def __init__(self, raw: HashedFile, compression: str, name: str) -> None:
        self._raw = raw
        self._name = name
        self._stream = _decompressor(raw, compression)
        self._compressed = bool(compression)
        self._produced = 0
        self._head = self._read(CHUNK_BYTES)
        self._check_head()
        self._head = self._head.removeprefix(_BOM)

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._read(size)

    def _read(self, size: int) -> bytes:
        try:
            data = self._stream.read(size)
        except (EOFError, zlib.error, lzma.LZMAError, OSError, ValueError) as error:
            raise DataFileError(
                FindingCode.COMPRESSION_BROKEN,
                f"{self._name} cannot be decompressed: {str(error).rstrip('.')}. Compress or copy it again.",
            ) from error
        self._produced += len(data)
        allowed = _FREE_EXPANSION_BYTES + MAX_EXPANSION * self._raw.position
        if self._compressed and self._produced > allowed:
            raise DataFileError(
                FindingCode.COMPRESSION_BOMB,
                f"{self._name} expands to more than {MAX_EXPANSION} times its size; no dataset does. It was not read on.",
            )
        return data

    def _check_head(self) -> None:
        if not self._head or self._head == _BOM:
            raise DataFileError(FindingCode.FILE_EMPTY, f"{self._name} holds nothing.")
        for magic, kind in _MAGIC.items():
            if self._head.startswith(magic):
                raise DataFileError(
                    FindingCode.FILE_KIND_MISMATCH,
                    f"{self._name} is not what its name says; its content is {kind}. Name it by its content.",
                )
        beginning = self._head[:1000]
        if beginning.startswith(_UTF16) or beginning.count(0) > len(beginning) // 4:
            raise DataFileError(
                FindingCode.NOT_UTF8, f"{self._name} is in UTF-16 or UTF-32. Save it as UTF-8.", line=1
            )


def _decompressor(raw: HashedFile, compression: str) -> Source:
    # The libraries' file objects only ever call read() on what they are given.
    file = cast("BinaryIO", raw)
    if compression == ".gz":
        return cast("Source", gzip.GzipFile(fileobj=file, mode="rb"))
    if compression == ".bz2":
        return cast("Source", bz2.BZ2File(file))
    if compression == ".xz":
        return _XzStream(raw)
    return raw


class _XzStream:
    """LZMAFile with a limit on the dictionary, which the file's author chooses and the reader must hold."""

    def __init__(self, raw: HashedFile) -> None:
        self._raw = raw
        self._decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)

    def read(self, size: int, /) -> bytes:
        data = b""
        while not data:
            compressed = b""
            if self._decompressor.eof:
                compressed = self._decompressor.unused_data or self._raw.read(CHUNK_BYTES)
                if not compressed.strip(b"\0"):
                    return b""
                self._decompressor = lzma.LZMADecompressor(memlimit=_XZ_MEMORY_BYTES)
            elif self._decompressor.needs_input:
                compressed = self._raw.read(CHUNK_BYTES)
                if not compressed:
                    msg = "the file ends in the middle"
                    raise EOFError(msg)
            data = self._decompressor.decompress(compressed, size)
        return data
