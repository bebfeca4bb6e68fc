"""Hub datasets that were fetched ahead: for the steps of a run that have neither a token nor a way to the hub."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from fettle_trainer import strict_json
from fettle_trainer.atomic import write_atomically
from fettle_trainer.data.files import DataFile
from fettle_trainer.data.hub import fetch_hub_dataset
from fettle_trainer.data.problems import DataFileError
from fettle_trainer.errors import IncompleteError
from fettle_trainer.strict_json import StrictJsonError

if TYPE_CHECKING:
    from pathlib import Path

    from fettle_trainer.config.dataset import DatasetConfig, HubDataset

KEPT_NAME: Final = "datasets"
"""The folder for them in a run's work folder."""
_KEY_LENGTH: Final = 24


def keep_hub_datasets(dataset: DatasetConfig, folder: Path) -> int:
    """Fetch every hub dataset that is not kept yet; return how many there are. What a run began with, it keeps."""
    sources = [
        *((source.hugging_face, "train") for source in dataset.train),
        *((source.hugging_face, "validation") for source in dataset.validation),
    ]
    wanted = [(source, split) for source, split in sources if source is not None]
    for source, split in wanted:
        if kept_files(source, split, folder) is None:
            _keep(source, split, folder)
    return len(wanted)


def kept_files(source: HubDataset, split: str, folder: Path) -> list[DataFile] | None:
    """Return the files of a source as they were fetched; None if they were not."""
    try:
        listed = strict_json.loads(_record(source, split, folder).read_bytes())
    except (OSError, StrictJsonError):
        return None
    files = [DataFile(folder / entry.pop("path"), **entry) for entry in listed["files"]]
    return files if all(file.path.is_file() for file in files) else None


def _keep(source: HubDataset, split: str, folder: Path) -> None:
    record = _record(source, split, folder)
    place = record.with_suffix("")
    place.mkdir(parents=True, exist_ok=True)
    files: list[DataFile] = []
    for found in fetch_hub_dataset(source, split, place):
        if isinstance(found, DataFileError):
            raise IncompleteError(found.code.value, str(found), "dataset") from found
        files.append(found)
    root = folder.resolve()
    listed = [
        {
            "path": str(file.path.relative_to(root)),
            "name": file.name,
            "kind": file.kind,
            "compression": file.compression,
        }
        for file in files
    ]
    write_atomically(record, json.dumps({"files": listed}).encode())


def _record(source: HubDataset, split: str, folder: Path) -> Path:
    """Return the file that says what was fetched, named by what was asked for; the token is no part of that."""
    asked = source.model_dump_json(exclude={"token_file"}) + split
    return folder / f"{hashlib.sha256(asked.encode()).hexdigest()[:_KEY_LENGTH]}.json"
