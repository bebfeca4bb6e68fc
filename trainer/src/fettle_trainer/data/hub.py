"""Datasets on the Hugging Face hub, or on the mirror that the administrator names in HF_ENDPOINT."""

from __future__ import annotations

import importlib
import os
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.files import KINDS, DataFile, kind_of
from fettle_trainer.data.hub_files import chosen_files
from fettle_trainer.data.problems import DataFileError

if TYPE_CHECKING:
    from fettle_trainer.config.dataset import HubDataset

_CARD: Final = "README.md"
_MAX_CARD_BYTES: Final = 2**20
_MAX_FILES: Final = 1000


def fetch_hub_dataset(source: HubDataset, split: str, folder: Path) -> list[DataFile | DataFileError]:
    """Download the files of a split into the folder; the revision is settled once, for all of them."""
    try:
        return [*_Repository(source, folder).files(source.split or split)]
    except DataFileError as error:
        return [error]


class _Repository:
    """One revision of a repository."""

    def __init__(self, source: HubDataset, folder: Path) -> None:
        self._source = source
        self._folder = folder / source.repo.replace("/", "--")
        try:
            self._hub: Any = importlib.import_module("huggingface_hub")
            self._errors: Any = importlib.import_module("huggingface_hub.errors")
            importlib.import_module("huggingface_hub.utils").disable_progress_bars()
        except ImportError as error:
            message = "Datasets on the hub need huggingface_hub to be read, which is not installed."
            raise self._failed(message) from error
        self._access = {"token": self._token(), "endpoint": os.environ.get("HF_ENDPOINT") or None}
        info = self._asked(
            lambda: self._hub.HfApi(**self._access).dataset_info(source.repo, revision=source.revision)
        )
        self._commit: str = info.sha
        self._names: list[str] = [sibling.rfilename for sibling in info.siblings or []]

    def files(self, split: str) -> list[DataFile]:
        """Download the split's files."""
        names = chosen_files(self._names, self._card(), self._source.subset, split)
        if not names or len(names) > _MAX_FILES:
            where = f" of subset {self._source.subset}" if self._source.subset else ""
            message = (
                f"{self._source.repo} has {len(names)} data files for the split {split}{where}; known are "
                f"{', '.join(KINDS)}, at most {_MAX_FILES}. Name subset and split."
            )
            raise self._failed(message, FindingCode.FILE_MISSING if not names else FindingCode.TOO_LARGE)
        return [self._data_file(name) for name in names]

    def _data_file(self, name: str) -> DataFile:
        kind, compression = kind_of(name)
        if kind is None:
            raise self._failed(f"{name} is no data file.", FindingCode.FILE_KIND_UNKNOWN)
        return DataFile(
            self._downloaded(name), f"{self._source.repo}@{self._commit[:8]}/{name}", kind, compression
        )

    def _card(self) -> str:
        if _CARD not in self._names:
            return ""
        with self._downloaded(_CARD).open("rb") as file:
            return file.read(_MAX_CARD_BYTES).decode("utf-8", "replace")

    def _downloaded(self, name: str) -> Path:
        if ".." in PurePosixPath(name).parts or name.startswith("/") or "\\" in name:
            raise self._failed(
                f"The repository names a file outside of itself: {name}.", FindingCode.SOURCE_FORBIDDEN
            )
        path = self._asked(
            lambda: self._hub.hf_hub_download(
                self._source.repo,
                name,
                repo_type="dataset",
                revision=self._commit,
                local_dir=self._folder,
                **self._access,
            )
        )
        return Path(path).resolve()

    def _token(self) -> str | bool:
        """Return the token; without one no token of the machine's user is sent either."""
        if self._source.token_file is None:
            return False
        try:
            return Path(self._source.token_file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise self._failed(f"The token file {self._source.token_file} cannot be read.") from error

    def _asked(self, request: Any) -> Any:
        errors = self._errors
        try:
            return request()
        except errors.GatedRepoError as error:
            raise self._failed(
                f"{self._source.repo} is gated: ask for access and name a tokenFile."
            ) from error
        except errors.RevisionNotFoundError as error:
            raise self._failed(f"{self._source.repo} has no revision {self._source.revision}.") from error
        except errors.RepositoryNotFoundError as error:
            message = (
                f"The dataset {self._source.repo} does not exist, or needs a tokenFile with access to it."
            )
            raise self._failed(message) from error
        except Exception as error:
            # The hub's client lets its HTTP library's errors through, and has changed that library before.
            raise self._failed(f"{self._source.repo} could not be fetched: {_first_line(error)}.") from error

    def _failed(self, message: str, code: FindingCode = FindingCode.SOURCE_UNREACHABLE) -> DataFileError:
        return DataFileError(code, message, name=self._source.repo)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".")[:300] if lines else type(error).__name__
