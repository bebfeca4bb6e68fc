"""Everything that can be known of an adapter without its manifest; shared by `verify` and `seal`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Final

from fettle_trainer import strict_json
from fettle_trainer.adapter.digest import adapter_digest
from fettle_trainer.adapter.errors import AdapterRefusedError
from fettle_trainer.adapter.layout import WEIGHTS_NAME
from fettle_trainer.adapter.peft_config import CONFIG_NAME, MAX_CONFIG_BYTES, PeftConfig, parse_peft_config
from fettle_trainer.adapter.weights import Weights, read_weights
from fettle_trainer.config.adapter import FileRecord
from fettle_trainer.config.manifest import MANIFEST_NAME
from fettle_trainer.config.verification import RefusalCode
from fettle_trainer.strict_json import StrictJsonError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fettle_trainer.adapter.directory import AdapterDirectory

TEMPLATE_NAME: Final = "chat_template.jinja"

PICKLES: Final = frozenset(
    {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".dill"}
)
PROGRAMS: Final = frozenset({".py", ".pyc", ".pyo", ".so", ".dll", ".dylib"})
_PIECE_BYTES: Final = 2**20
_MAX_TOKENIZER_CONFIG_BYTES: Final = 4 * 2**20
"""Families with thousands of added tokens list them all there."""


@dataclass(frozen=True)
class Contents:
    """The files of a directory that was read whole."""

    records: tuple[FileRecord, ...]
    """Every file but the manifest, sorted by path."""

    @property
    def digest(self) -> str:
        """The name by content."""
        return adapter_digest(self.records)

    @property
    def size_bytes(self) -> int:
        """The sum of all files but the manifest."""
        return sum(record.size_bytes for record in self.records)

    @property
    def template_hash(self) -> str | None:
        """The digest of the chat template file, if there is one."""
        return next(
            (f"sha256:{record.sha256}" for record in self.records if record.path == TEMPLATE_NAME), None
        )


@dataclass(frozen=True)
class InspectedAdapter(Contents):
    """The facts of an adapter whose own files are sound."""

    config: PeftConfig
    weights: Weights


def inspect_adapter(directory: AdapterDirectory) -> InspectedAdapter:
    """Read every file once; the first thing that is wrong is raised as AdapterRefusedError."""
    refuse_code(directory)
    _require(directory, CONFIG_NAME, RefusalCode.CONFIG_MISSING)
    _require(directory, WEIGHTS_NAME, RefusalCode.WEIGHTS_MISSING)
    config = parse_peft_config(directory.read(CONFIG_NAME, MAX_CONFIG_BYTES))
    refuse_remote_code(directory)
    weights = read_weights(directory, config)
    records = records_with(directory, {WEIGHTS_NAME: weights.record})
    return InspectedAdapter(records, config, weights)


def records_with(directory: AdapterDirectory, read: Mapping[str, FileRecord]) -> tuple[FileRecord, ...]:
    """Read the files that were not read yet; return the records of all, proven to be of one moment."""
    records = tuple(
        read[path] if path in read else _record(directory, path)
        for path in directory.entries
        if path != MANIFEST_NAME
    )
    directory.ensure_unchanged()
    return records


def refuse_code(directory: AdapterDirectory) -> None:
    """Refuse programs, and files that can hold pickled ones."""
    for path in directory.entries:
        suffix = PurePosixPath(path).suffix.lower()
        if suffix in PICKLES:
            raise AdapterRefusedError(
                RefusalCode.CODE_FILE,
                f"{path} is of a kind that can hold pickled code, which Fettle never opens. Remove it; weights belong "
                "in safetensors files.",
                path,
            )
        if suffix in PROGRAMS:
            raise AdapterRefusedError(
                RefusalCode.CODE_FILE,
                f"{path} is a program; Fettle runs no code from adapters. Remove it.",
                path,
            )


def _require(directory: AdapterDirectory, path: str, code: RefusalCode) -> None:
    if path not in directory:
        raise AdapterRefusedError(
            code, f"{path} is missing. Name the directory that PEFT's save_pretrained wrote.", path
        )


def refuse_remote_code(directory: AdapterDirectory) -> None:
    """Refuse `auto_map`: what has it needs code from its author to be loaded."""
    for path in directory.entries:
        if "/" in path or path == CONFIG_NAME or not path.endswith("config.json"):
            continue
        try:
            document = strict_json.loads(directory.read(path, _MAX_TOKENIZER_CONFIG_BYTES))
        except StrictJsonError as error:
            raise AdapterRefusedError(
                RefusalCode.CONFIG_INVALID, f"{path} is no JSON ({error}).", path
            ) from error
        if isinstance(document, dict) and "auto_map" in document:
            raise AdapterRefusedError(
                RefusalCode.CODE_FILE,
                f"{path} has auto_map, which asks for code from the model's author; Fettle runs none. Remove the key if "
                "the adapter works without.",
                path,
            )


def _record(directory: AdapterDirectory, path: str) -> FileRecord:
    digest = hashlib.sha256()
    size = directory.entry(path).size
    with directory.reader(path) as read:
        for start in range(0, size, _PIECE_BYTES):
            digest.update(read(min(_PIECE_BYTES, size - start)))
    return FileRecord(path=path, sha256=digest.hexdigest(), size_bytes=size)
