"""From the paths of a source to the regular files behind them."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.problems import DataFileError

if TYPE_CHECKING:
    from fettle_trainer.config.dataset import FileKind

MAX_FILES: Final = 10_000
KINDS: Final[dict[str, FileKind]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".parquet": "parquet",
}
COMPRESSIONS: Final = (".gz", ".bz2", ".xz")
_GLOB: Final = frozenset("*?[")


@dataclass(frozen=True)
class DataFile:
    """A file to read, and the name under which its findings are reported."""

    path: Path
    name: str
    kind: FileKind
    compression: str = ""


def find_files(path: str, root: str | None = None) -> list[DataFile | DataFileError]:
    """Return the files that a path, a folder or a glob means, in a stable order; what is no data file as an error."""
    try:
        folder = None if root is None else _resolved(Path(root))
        candidates = sorted(_candidates(Path(path)))
    except DataFileError as error:
        return [error]
    except (OSError, ValueError) as error:
        return [_unreadable(Path(path), error)]
    if not candidates:
        known = f"Data files end in {', '.join(KINDS)}, compressed or not ({', '.join(COMPRESSIONS)})."
        return [DataFileError(FindingCode.FILE_MISSING, f"No data file matches {path}. {known}", name=path)]
    if len(candidates) > MAX_FILES:
        message = f"{path} means {len(candidates)} files; at most {MAX_FILES} are read."
        return [DataFileError(FindingCode.TOO_LARGE, message, name=path)]
    return [_checked(candidate, folder) for candidate in candidates]


def kind_of(name: str) -> tuple[FileKind | None, str]:
    """Return what a file's name says: its kind, if known, and its compression."""
    lower = name.lower()
    compression = next((suffix for suffix in COMPRESSIONS if lower.endswith(suffix)), "")
    stem = lower.removesuffix(compression)
    return next((kind for suffix, kind in KINDS.items() if stem.endswith(suffix)), None), compression


def _candidates(path: Path) -> list[Path]:
    if _GLOB.isdisjoint(str(path)):
        # A folder may hold other things too, and a mounted ConfigMap does.
        return [found for found in path.iterdir() if kind_of(found.name)[0]] if path.is_dir() else [path]
    first = next(number for number, part in enumerate(path.parts) if not _GLOB.isdisjoint(part))
    start = Path(*path.parts[:first])
    return [found for found in start.glob("/".join(path.parts[first:])) if not found.is_dir()]


def _checked(path: Path, root: Path | None) -> DataFile | DataFileError:
    try:
        real = _resolved(path)
        status = real.stat()
    except DataFileError as error:
        return error
    except OSError as error:
        return _unreadable(path, error)
    name = str(path)
    if root is not None and not real.is_relative_to(root):
        message = f"{name} lies outside of its volume: a link or '..' leads out. Copy the file into it."
        return DataFileError(FindingCode.FILE_OUTSIDE_ROOT, message, name=name)
    if not stat.S_ISREG(status.st_mode):
        return DataFileError(FindingCode.FILE_NOT_REGULAR, f"{name} is not a regular file.", name=name)
    kind, compression = kind_of(path.name)
    if kind is None:
        message = f"{name} ends in no known suffix. Name it by what it is: {', '.join(KINDS)}."
        return DataFileError(FindingCode.FILE_KIND_UNKNOWN, message, name=name)
    return DataFile(real, name, kind, compression)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve(strict=True)
    except FileNotFoundError as error:
        raise DataFileError(FindingCode.FILE_MISSING, f"{path} does not exist.", name=str(path)) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataFileError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    name = str(path).encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
    return DataFileError(FindingCode.FILE_UNREADABLE, f"{name} cannot be read: {reason}.", name=name)
