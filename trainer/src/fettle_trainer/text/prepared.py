"""A dataset made ready for training: read, checked, tokenised, kept by content, and found again without the data.

`prepared/<key>/` holds the tokens of one dataset under one tokenizer; the key is made of both, so what lies there
never changes its meaning. `prepared/<recipe>.json` remembers which key the settings led to, and what the source
files looked like then: while they look the same, or are gone, nothing is read again.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from fettle_trainer import strict_json
from fettle_trainer.atomic import alone, write_atomically
from fettle_trainer.config.dataset_report import DatasetReport
from fettle_trainer.data.kept import KEPT_NAME
from fettle_trainer.data.sources import PUBLIC_ONLY, appearance, found_files
from fettle_trainer.errors import WrongInputError
from fettle_trainer.strict_json import StrictJsonError
from fettle_trainer.text.encode import Prompt
from fettle_trainer.text.reading import read_rows
from fettle_trainer.text.selection import select
from fettle_trainer.text.store import FORMAT_VERSION, TokenWriter, open_store
from fettle_trainer.text.tokenizer import load_tokenizer, most_positions, tokenizer_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fettle_trainer.config.dataset import RowFormat
    from fettle_trainer.config.dataset_report import Finding, TokenFacts
    from fettle_trainer.config.run import RunConfig
    from fettle_trainer.data.http import Limits
    from fettle_trainer.text.overlong import Kept
    from fettle_trainer.text.store import TokenStore

UNTRAINED: Final = -100
"""The label of a token that is no target, as torch's cross-entropy ignores it."""
_KEY_LENGTH: Final = 24
_LISTED: Final = 10
_NOTHING_NOTED: Final = (-1, "", None)
_NO_MORE_NOTED: Final = (2**62, "", None)


class TokenRow(NamedTuple):
    """One row to train on; `labels` are not shifted."""

    input_ids: np.ndarray
    labels: np.ndarray


class TokenTable:
    """The rows of one side of the split, read from disk as they are asked for."""

    def __init__(self, store: TokenStore, kept: Kept, names: tuple[str, ...]) -> None:
        self._store = store
        self._rows = kept.rows
        self._names = names
        self.lengths: np.ndarray = kept.lengths
        self.trained: np.ndarray = kept.trained

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, number: int) -> TokenRow:
        """Return a row's tokens and labels."""
        at, length = int(self._rows[number]), int(self.lengths[number])
        ids = np.array(self._store.ids(at, length), dtype=np.int32)
        return TokenRow(ids, np.where(self._store.mask(at, length), ids, np.int32(UNTRAINED)))

    @property
    def label_ids(self) -> np.ndarray:
        """For each row the number of its label among the dataset's labels; -1 for none."""
        labels: np.ndarray = self._store.rows["label"][self._rows].astype(np.int32) - 1
        return np.where(labels < len(self._store.meta["labels"]), labels, -1)

    def place(self, number: int) -> tuple[str, int]:
        """Return the file and the line that a row came from."""
        entry = self._store.rows[int(self._rows[number])]
        return self._names[entry["file"]], int(entry["line"])

    def prompts(self) -> Iterator[Prompt]:
        """Yield what each row's answer is generated from; what the data answers is known of validation rows only.

        A row whose prompt alone reaches the maximum length has no room for an answer and is left out.
        """
        noted = self._store.references()
        row, reference, label = _NOTHING_NOTED
        for number, at in enumerate(self._rows.tolist()):
            # Rows and notes both stand in the order in which they were read.
            while row < at:
                row, reference, label = next(noted, _NO_MORE_NOTED)
            length = int(self._store.rows["prompt"][at])
            if length < int(self.lengths[number]):
                answer = (reference, label) if row == at else ("", None)
                yield Prompt(self._store.ids(at, length).tolist(), *answer)


@dataclass(frozen=True)
class Prepared:
    """A dataset ready for training."""

    folder: Path
    row_format: RowFormat
    train: TokenTable
    validation: TokenTable
    facts: TokenFacts
    labels: tuple[str, ...]
    dataset_digest: str
    template_digest: str | None
    report: DatasetReport
    """The check's report, with the tokens."""


def prepare(
    config: RunConfig,
    model_folder: Path,
    work: Path,
    *,
    max_length: int | None = None,
    limits: Limits = PUBLIC_ONLY,
) -> Prepared:
    """Read the dataset, or find what an earlier call made of it; raise WrongInputError if it cannot be trained on.

    `max_length` is for a caller who knows better than the configuration, for example what fits into memory.
    """
    shelf = work / "prepared"
    recipe = _recipe(config, model_folder)
    folder = _remembered(shelf, recipe, config)
    if folder is None:
        # Several nodes may share the volume: one of them does the work, the others find it done.
        with alone(shelf / ".lock"):
            folder = _remembered(shelf, recipe, config) or _make(config, model_folder, shelf, recipe, limits)
    store = open_store(folder)
    if store is None:
        msg = f"{folder} vanished or changed while it was opened"
        raise OSError(msg)
    return _opened(store, config, max_length, most_positions(model_folder))


def _opened(store: TokenStore, config: RunConfig, max_length: int | None, positions: int | None) -> Prepared:
    meta = store.meta
    names = tuple(meta["names"])
    report = DatasetReport.model_validate(meta["report"])
    selection = select(store, report, names, config.training, max_length=max_length, positions=positions)
    _raise_unless_passed(selection.report)
    return Prepared(
        folder=store.folder,
        row_format=meta["rowFormat"],
        train=TokenTable(store, selection.train, names),
        validation=TokenTable(store, selection.validation, names),
        facts=selection.facts,
        labels=tuple(meta["labels"]),
        dataset_digest=meta["datasetDigest"],
        template_digest=meta["templateDigest"],
        report=selection.report,
    )


def _make(config: RunConfig, model_folder: Path, shelf: Path, recipe: str, limits: Limits) -> Path:
    tokenizer = load_tokenizer(model_folder)
    seen = appearance(config.dataset)
    with TokenWriter(shelf) as writer:
        with found_files(config.dataset, limits, shelf.parent / KEPT_NAME) as files:
            read = read_rows(config, files, tokenizer, writer)
        _raise_unless_passed(read.report)
        digest = read.report.digest
        key = hashlib.sha256(f"{recipe} {digest}".encode()).hexdigest()[:_KEY_LENGTH]
        folder = shelf / key
        if open_store(folder) is None:
            writer.finish(folder, {
                "rowFormat": read.row_format,
                "labels": read.labels,
                "names": read.names,
                "datasetDigest": digest,
                "templateDigest": read.template_digest,
                "report": read.report.model_dump(mode="json", by_alias=True, exclude_none=True),
            })  # fmt: skip
    write_atomically(shelf / f"{recipe}.json", json.dumps({"key": key, "sources": seen}).encode())
    return folder


def _recipe(config: RunConfig, model_folder: Path) -> str:
    """Name the settings that decide which tokens a dataset becomes."""
    parts: list[Any] = [
        FORMAT_VERSION,
        config.dataset.model_dump(mode="json", by_alias=True),
        config.training.loss.train_on,
        tokenizer_digest(model_folder),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:_KEY_LENGTH]


def _remembered(shelf: Path, recipe: str, config: RunConfig) -> Path | None:
    """Return the folder these settings led to, unless the source files look different now."""
    try:
        memory = strict_json.loads((shelf / f"{recipe}.json").read_bytes())
        folder = shelf / str(memory["key"])
        seen = memory["sources"]
    except (OSError, StrictJsonError, KeyError, TypeError):
        return None
    now = appearance(config.dataset)
    same = now is None or now == seen
    return folder if same and open_store(folder) is not None else None


def _raise_unless_passed(report: DatasetReport) -> None:
    if report.passed:
        return
    errors = [finding for finding in report.findings if finding.severity == "error"]
    lines = [_line(finding) for finding in errors[:_LISTED]]
    rest = sum(report.counts[code] for code in {finding.code for finding in errors}) - len(lines)
    if rest > 0:
        lines.append(f"… and {rest} more.")
    code = str(errors[0].code) if errors else "DatasetInvalid"
    raise WrongInputError(code, "\n".join(lines) or "The dataset cannot be trained on.", "dataset")


def _line(finding: Finding) -> str:
    place = ":".join(str(part) for part in (finding.file, finding.line, finding.column) if part)
    return f"{place}: {finding.message}" if place else finding.message
