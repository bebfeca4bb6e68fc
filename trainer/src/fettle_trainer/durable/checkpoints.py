"""The folder of a run's checkpoints: each one is whole and verified, or it does not count.

A checkpoint is written under a hidden name, flushed to the disk with a record of every file's SHA-256, and only then
renamed. Whatever kills the writer, the folders called `checkpoint-<step>` are whole; whatever damages them later is
found before anything is loaded, and the one before is taken.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import shutil
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fettle_trainer.atomic import write_atomically
from fettle_trainer.durable.record import (
    RECORD_NAME,
    CheckpointFacts,
    CheckpointRecord,
    DamagedRecordError,
    RecordedFile,
    parse_record,
    render_record,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_log = logging.getLogger(__name__)
_NAME: Final = re.compile(r"checkpoint-(0|[1-9]\d*)")
_UNFINISHED: Final = re.compile(r"\.(saving|removing)-\d+")
_HASHERS: Final = 4
"""Hashing releases the interpreter's lock, and a checkpoint of a large model is tens of gigabytes."""
_RECORD_FILES: Final = (RECORD_NAME, f".{RECORD_NAME}.tmp")
"""Not recorded themselves; the second is what a kill within mark_complete leaves."""


@dataclass(frozen=True)
class Checkpoint:
    """A complete checkpoint: every file was there and was what it should be."""

    path: Path
    facts: CheckpointFacts


class TornCheckpointError(Exception):
    """A checkpoint is not whole; the message says what is wrong with it."""


class CheckpointStore:
    """All checkpoints of one run."""

    def __init__(self, folder: Path, keep_last: int = 2) -> None:
        self.folder = folder
        self._keep_last = keep_last

    def path(self, step: int) -> Path:
        """Return where the checkpoint of a step stands once it is complete."""
        return self.folder / f"checkpoint-{step}"

    def staging(self, step: int) -> Path:
        """Return where the checkpoint of a step is written."""
        return self.folder / f".saving-{step}"

    def begin(self, step: int) -> None:
        """Make the staging folder, empty, and remove what a killed process left behind."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.clear_unfinished()
        self.staging(step).mkdir()

    def commit(self, step: int, facts: CheckpointFacts) -> Path:
        """Make the staging folder the checkpoint of its step; its files have been flushed by `flush`."""
        staging, target = self.staging(step), self.path(step)
        record = CheckpointRecord(facts=facts, files=_recorded(staging))
        write_atomically(staging / RECORD_NAME, render_record(record))
        flush(staging)
        if target.exists():
            self._remove(step)
        staging.rename(target)
        _flush_folder(self.folder)
        return target

    def mark_complete(self, step: int) -> None:
        """Record that training is over with a checkpoint that is already there."""
        path = self.path(step)
        record = _read_record(path)
        facts = record.facts.model_copy(update={"training_complete": True})
        write_atomically(path / RECORD_NAME, render_record(record.model_copy(update={"facts": facts})))

    def clear_unfinished(self) -> None:
        """Remove what was being written or removed when a process was killed."""
        for entry in self.folder.iterdir() if self.folder.is_dir() else ():
            if _UNFINISHED.fullmatch(entry.name):
                shutil.rmtree(entry)

    def newest_complete(self) -> Checkpoint | None:
        """Return the newest checkpoint that is whole; a damaged one is passed over with a sentence in the log."""
        for step in sorted(self._steps(), reverse=True):
            try:
                return self.verified(step)
            except TornCheckpointError as error:
                _log.warning(
                    "%s is passed over: %s. The run goes on from an earlier one.", self.path(step), error
                )
        return None

    def newest_step(self) -> int | None:
        """Return the step of the newest checkpoint that was finished, without reading it."""
        return max(
            (step for step in self._steps() if (self.path(step) / RECORD_NAME).is_file()), default=None
        )

    def newest_facts(self) -> CheckpointFacts | None:
        """Return what the newest readable record says, for a report; its files are not looked at."""
        for step in sorted(self._steps(), reverse=True):
            with suppress(TornCheckpointError):
                return _read_record(self.path(step)).facts
        return None

    def verified(self, step: int) -> Checkpoint:
        """Read every byte of a checkpoint; raise TornCheckpointError if it is not what was written."""
        path = self.path(step)
        record = _read_record(path)
        if record.facts.step != step:
            msg = f"{RECORD_NAME} is that of step {record.facts.step}"
            raise TornCheckpointError(msg)
        _verify_files(path, record.files)
        return Checkpoint(path, record.facts)

    def prune(self, newest: int, best: int | None = None) -> None:
        """Keep the last ones up to `newest`, which was just committed, and the best one; remove all others."""
        whole = sorted(
            step for step in self._steps() if step <= newest and (self.path(step) / RECORD_NAME).is_file()
        )
        kept = {*whole[-self._keep_last :], best}
        # What is newer was passed over as damaged, or the run would have gone on from there.
        for step in set(self._steps()) - kept:
            self._remove(step)

    def discard(self, step: int) -> None:
        """Remove a staging folder, whatever is in it."""
        shutil.rmtree(self.staging(step), ignore_errors=True)

    def _steps(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        names = (_NAME.fullmatch(entry.name) for entry in self.folder.iterdir() if entry.is_dir())
        return [int(name[1]) for name in names if name]

    def _remove(self, step: int) -> None:
        # Renamed first: a half-removed folder must not look like a checkpoint.
        doomed = self.folder / f".removing-{step}"
        shutil.rmtree(doomed, ignore_errors=True)
        self.path(step).rename(doomed)
        shutil.rmtree(doomed)


def flush(folder: Path) -> None:
    """Flush every file and folder below to the disk; each node does so, for what its own ranks wrote."""
    for path, _ in _regular_files(folder):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for below, _, _ in os.walk(folder):
        _flush_folder(below)


def _flush_folder(folder: Path | str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_record(path: Path) -> CheckpointRecord:
    try:
        return parse_record((path / RECORD_NAME).read_bytes())
    except DamagedRecordError as error:
        raise TornCheckpointError(str(error)) from error
    except FileNotFoundError as error:
        msg = f"it has no {RECORD_NAME}, so it was never finished"
        raise TornCheckpointError(msg) from error
    except OSError as error:
        msg = f"{RECORD_NAME} cannot be read ({error.strerror})"
        raise TornCheckpointError(msg) from error


def _recorded(folder: Path) -> tuple[RecordedFile, ...]:
    sizes = dict(_regular_files(folder))
    with ThreadPoolExecutor(_HASHERS) as hashers:
        digests = list(hashers.map(_sha256, sizes))
    return tuple(
        RecordedFile(path=path.relative_to(folder).as_posix(), sha256=digest, size_bytes=size)
        for (path, size), digest in zip(sizes.items(), digests, strict=True)
    )


def _verify_files(folder: Path, expected: tuple[RecordedFile, ...]) -> None:
    sizes = {path.relative_to(folder).as_posix(): size for path, size in _regular_files(folder)}
    records = {record.path: record for record in expected}
    for name in sorted(records.keys() ^ sizes.keys()):
        msg = f"{name} is missing" if name in records else f"{name} does not belong to it"
        raise TornCheckpointError(msg)
    for name, size in sizes.items():
        if size != records[name].size_bytes:
            msg = f"{name} has {size} bytes instead of {records[name].size_bytes}"
            raise TornCheckpointError(msg)
    # Only now is any byte read: a truncated file of many gigabytes is found at once.
    with ThreadPoolExecutor(_HASHERS) as hashers:
        for name, digest in zip(
            records, hashers.map(_sha256, (folder / name for name in records)), strict=True
        ):
            if digest != records[name].sha256:
                msg = f"{name} is damaged (its SHA-256 is not the recorded one)"
                raise TornCheckpointError(msg)


def _regular_files(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield the files below but the record, with their sizes; anything but a regular file makes the checkpoint worthless."""
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode):
            if path.parent != folder or path.name not in _RECORD_FILES:
                yield path, status.st_size
        elif not stat.S_ISDIR(status.st_mode):
            msg = f"{path.relative_to(folder)} is no regular file"
            raise TornCheckpointError(msg)


def _sha256(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"{path.name} cannot be read ({error.strerror})"
        raise TornCheckpointError(msg) from error
