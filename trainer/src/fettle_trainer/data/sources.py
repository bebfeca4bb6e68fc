"""From the sources of a configuration to files on this machine."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.check import FoundFiles
from fettle_trainer.data.files import KINDS, DataFile, find_files, kind_of
from fettle_trainer.data.http import Limits, fetch, is_public
from fettle_trainer.data.hub import fetch_hub_dataset
from fettle_trainer.data.kept import kept_files
from fettle_trainer.data.problems import DataFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fettle_trainer.config.dataset import DatasetConfig, DataSource, HttpFile

PUBLIC_ONLY = Limits(allowed=is_public)


@contextmanager
def found_files(
    dataset: DatasetConfig, limits: Limits = PUBLIC_ONLY, kept: Path | None = None
) -> Iterator[FoundFiles]:
    """Give the files of all sources; what had to be fetched is removed afterwards.

    `kept` is the folder for hub datasets that were fetched ahead.
    """
    with ExitStack() as stack:
        fetching = _Fetching(stack, limits, kept)
        yield FoundFiles(
            train=(file for source in dataset.train for file in fetching.files(source, "train")),
            validation=(
                file for source in dataset.validation for file in fetching.files(source, "validation")
            ),
        )


def appearance(dataset: DatasetConfig) -> list[list[str | int]] | None:
    """Return what the sources look like without reading them; None if local files are missing.

    Two equal appearances mean equal data: a local file is told by size and time of change, a fetched one by its
    digest. A hub dataset is told by its name and revision, so that what was once read stays what a run is about.
    """
    seen: list[list[str | int]] = []
    for source in (*dataset.train, *dataset.validation):
        if source.path is None:
            seen.append([source.model_dump_json(by_alias=True, exclude_none=True)])
            continue
        for file in find_files(source.path, source.root):
            if isinstance(file, DataFileError):
                return None
            try:
                status = file.path.stat()
            except OSError:
                return None
            seen.append([file.name, status.st_size, status.st_mtime_ns])
    return seen


class _Fetching:
    """Turns sources into files, with a folder for what has to be fetched as soon as something has."""

    def __init__(self, stack: ExitStack, limits: Limits, kept: Path | None) -> None:
        self._stack = stack
        self._limits = limits
        self._kept = kept
        self._folder: Path | None = None

    def files(self, source: DataSource, split: str) -> list[DataFile | DataFileError]:
        """Return the files of one source; a hub dataset that names no split has the one of the list it stands in."""
        if source.path is not None:
            return find_files(source.path, source.root)
        if source.hugging_face is not None and self._kept is not None:
            known = kept_files(source.hugging_face, split, self._kept)
            if known is not None:
                return [*known]
        if self._folder is None:
            self._folder = Path(self._stack.enter_context(TemporaryDirectory(prefix="fettle-data-")))
        if source.http is not None:
            return [_fetched(source.http, self._folder, self._limits)]
        # The configuration allows exactly one of the three.
        return (
            [] if source.hugging_face is None else fetch_hub_dataset(source.hugging_face, split, self._folder)
        )


def _fetched(source: HttpFile, folder: Path, limits: Limits) -> DataFile | DataFileError:
    name = urlsplit(source.url).path
    kind, compression = kind_of(name)
    if kind is None:
        message = f"{source.url} ends in no known suffix: {', '.join(KINDS)}."
        return DataFileError(FindingCode.FILE_KIND_UNKNOWN, message, name=source.url)
    target = folder / source.sha256
    try:
        fetch(source, target, limits)
    except DataFileError as error:
        return error
    return DataFile(target, source.url, kind, compression)
