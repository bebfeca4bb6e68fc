"""Reading a directory that somebody else filled: beneath its root, no links, nothing but regular files.

Every path is opened component by component relative to an open directory, so a link that is swapped in between
a check and a read is refused by the kernel rather than followed.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fettle_trainer.adapter.errors import AdapterRefusedError, FileChangedError
from fettle_trainer.config.verification import RefusalCode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAX_FILES: Final = 1024
MAX_DEPTH: Final = 8
MAX_PATH_BYTES: Final = 512
MAX_TOTAL_BYTES: Final = 64 * 2**30
"""Far above any adapter, far below a sparse file that would be hashed for hours."""

_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a FIFO swapped in after the listing must not hang the open.
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BUFFER_BYTES: Final = 2**18
# ext4 volumes carry this root-owned folder at their top; it belongs to the file system.
_FILE_SYSTEM_FOLDER: Final = "lost+found"

_KINDS: Final = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


@dataclass(frozen=True)
class Entry:
    """A regular file as it was when the directory was listed."""

    path: str
    size: int
    inode: int
    changed_ns: tuple[int, int]

    @classmethod
    def of(cls, path: str, status: os.stat_result) -> Entry:
        """Remember what would differ if the file were written to or replaced."""
        return cls(path, status.st_size, status.st_ino, (status.st_mtime_ns, status.st_ctime_ns))


class AdapterDirectory:
    """An open directory and the regular files below it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.entries = self._listing()

    def read(self, path: str, limit: int) -> bytes:
        """Return the whole content of a small file; a larger one is refused."""
        size = self.entry(path).size
        if size > limit:
            raise AdapterRefusedError(
                RefusalCode.TOO_LARGE,
                f"{path} is larger than {limit} bytes, the most that is read of it.",
                path,
            )
        with self.reader(path) as read:
            return read(size)

    @contextmanager
    def reader(self, path: str) -> Iterator[Callable[[int], bytes]]:
        """Give a function that reads exactly so many bytes; end with FileChangedError if the file changed."""
        expected = self.entry(path)

        def ensure_same(descriptor: int) -> None:
            if Entry.of(path, os.fstat(descriptor)) != expected:
                raise FileChangedError(path)

        def read(size: int) -> bytes:
            data = file.read(size)
            if len(data) != size:
                raise FileChangedError(path)
            return data

        with (
            self._open(path) as descriptor,
            open(descriptor, "rb", buffering=_BUFFER_BYTES, closefd=False) as file,
        ):
            ensure_same(descriptor)
            yield read
            ensure_same(descriptor)

    def entry(self, path: str) -> Entry:
        """Return the listed file of that path."""
        return self.entries[path]

    def __contains__(self, path: str) -> bool:
        return path in self.entries

    def ensure_unchanged(self) -> None:
        """Raise FileChangedError if the listing is no longer what it was."""
        now = self._listing()
        for path in sorted(now.keys() | self.entries.keys()):
            if now.get(path) != self.entries.get(path):
                raise FileChangedError(path)

    def _listing(self) -> dict[str, Entry]:
        entries = {entry.path: entry for entry in _walk(self._descriptor, "", [])}
        total = sum(entry.size for entry in entries.values())
        if total > MAX_TOTAL_BYTES:
            raise AdapterRefusedError(
                RefusalCode.TOO_LARGE,
                f"The directory holds {total} bytes; at most {MAX_TOTAL_BYTES} are accepted.",
            )
        return dict(sorted(entries.items()))

    @contextmanager
    def _open(self, path: str) -> Iterator[int]:
        *folders, name = path.split("/")
        with _opened_beneath(self._descriptor, folders, path) as folder:
            try:
                descriptor = os.open(name, _FILE_FLAGS, dir_fd=folder)
            except OSError as error:
                if error.errno in {errno.ELOOP, errno.ENOENT}:
                    raise FileChangedError(path) from error
                raise
            try:
                yield descriptor
            finally:
                os.close(descriptor)


@contextmanager
def open_adapter_directory(directory: Path) -> Iterator[AdapterDirectory]:
    """Open a directory without following a link anywhere on the way to it."""
    parts = directory.parts
    if ".." in parts:
        raise AdapterRefusedError(RefusalCode.UNSAFE_FILE, f"The path {directory} contains '..'.")
    start = "/" if directory.is_absolute() else "."
    below = parts[1:] if directory.is_absolute() else parts
    root = os.open(start, _DIRECTORY_FLAGS)
    try:
        with _opened_beneath(root, list(below), str(directory)) as descriptor:
            yield AdapterDirectory(descriptor)
    finally:
        os.close(root)


@contextmanager
def _opened_beneath(root: int, folders: list[str], path: str) -> Iterator[int]:
    descriptor = os.dup(root)
    try:
        for folder in folders:
            below = _open_folder(descriptor, folder, path)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _open_folder(parent: int, name: str, path: str) -> int:
    try:
        return os.open(name, _DIRECTORY_FLAGS, dir_fd=parent)
    except FileNotFoundError as error:
        raise AdapterRefusedError(
            RefusalCode.DIRECTORY_MISSING, f"The directory {path} does not exist."
        ) from error
    except OSError as error:
        if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
            raise
        if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise AdapterRefusedError(
                RefusalCode.UNSAFE_FILE,
                f"{name} in the path {path} is a symbolic link; name the real directory.",
            ) from error
        raise AdapterRefusedError(
            RefusalCode.DIRECTORY_MISSING, f"{name} in the path {path} is not a directory."
        ) from error


def _walk(folder: int, prefix: str, seen: list[str]) -> Iterator[Entry]:
    """Yield the files of an open folder and of all below; `seen` counts the names of the whole tree."""
    if prefix.count("/") > MAX_DEPTH:
        raise AdapterRefusedError(
            RefusalCode.TOO_LARGE, f"Folders are nested deeper than {MAX_DEPTH}.", prefix.rstrip("/")
        )
    names = sorted(os.listdir(folder))
    seen += names
    if len(seen) > MAX_FILES:
        raise AdapterRefusedError(RefusalCode.TOO_LARGE, f"The directory holds more than {MAX_FILES} files.")
    for name in names:
        path = prefix + name
        _check_name(path)
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            yield Entry.of(path, status)
        elif not stat.S_ISDIR(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "no regular file")
            raise AdapterRefusedError(
                RefusalCode.UNSAFE_FILE, f"{path} is {kind}; an adapter holds regular files only.", path
            )
        elif path != _FILE_SYSTEM_FOLDER:
            with _opened_beneath(folder, [name], path) as below:
                yield from _walk(below, f"{path}/", seen)


def _check_name(path: str) -> None:
    if not path.isprintable() or len(os.fsencode(path)) > MAX_PATH_BYTES:
        printable = ascii(path)[1:-1][:MAX_PATH_BYTES]
        raise AdapterRefusedError(
            RefusalCode.UNSAFE_FILE,
            f"The file name {printable} is not plain UTF-8 text of at most {MAX_PATH_BYTES} bytes; rename the file.",
            printable,
        )
