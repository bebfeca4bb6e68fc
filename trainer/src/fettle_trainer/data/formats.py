"""Which format a row is in, and what understands it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, get_args

from fettle_trainer.config.dataset import RowFormat
from fettle_trainer.data.chat import chat_interpreter, sharegpt_interpreter
from fettle_trainer.data.plain import (
    alpaca_interpreter,
    classification_interpreter,
    labelled,
    pair_interpreter,
    template_interpreter,
    text_interpreter,
)

if TYPE_CHECKING:
    from fettle_trainer.config.dataset import Columns, DatasetConfig
    from fettle_trainer.data.examples import Interpreter

FORMATS: Final[tuple[RowFormat, ...]] = get_args(RowFormat)

# Usual names of pairs, the first that stands in a row counts; Olive's is input and output.
_PAIRS: Final = (
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("input", "output"),
)


def detect(value: dict[str, Any], dataset: DatasetConfig) -> RowFormat | None:
    """Return the format of a row by its column names; None if they fit none."""
    if dataset.template is not None:
        return "text"
    columns = dataset.columns
    present = value.keys()
    text, label = columns.text or "text", columns.label or "label"
    fits: dict[RowFormat, bool] = {
        "chat": (columns.messages or "messages") in present,
        "sharegpt": "conversations" in present,
        "alpaca": {columns.instruction or "instruction", columns.output or "output"} <= present,
        "prompt-completion": _pair(value, columns) is not None,
        "classification": {text, label} <= present,
        "text": text in present,
    }
    return next((name for name, fit in fits.items() if fit), None)


def interpreter(row_format: RowFormat, value: dict[str, Any], dataset: DatasetConfig) -> Interpreter:
    """Return what understands rows of that format; the first row decides between usual names."""
    understand = _interpreter(row_format, value, dataset)
    label = dataset.columns.label
    return understand if label is None or row_format == "classification" else labelled(understand, label)


def _interpreter(row_format: RowFormat, value: dict[str, Any], dataset: DatasetConfig) -> Interpreter:
    columns = dataset.columns
    if dataset.template is not None:
        return template_interpreter(dataset.template)
    if row_format == "prompt-completion":
        return pair_interpreter(*(_pair(value, columns) or _named_pair(columns)))
    makers = {
        "chat": chat_interpreter,
        "sharegpt": sharegpt_interpreter,
        "alpaca": alpaca_interpreter,
        "text": text_interpreter,
        "classification": classification_interpreter,
    }
    return makers[row_format](columns)


def _named_pair(columns: Columns) -> tuple[str, str]:
    return columns.prompt or columns.input or "prompt", columns.completion or columns.output or "completion"


def _pair(value: dict[str, Any], columns: Columns) -> tuple[str, str] | None:
    named = columns.prompt or columns.completion or columns.input or columns.output
    candidates = (_named_pair(columns),) if named else _PAIRS
    return next((pair for pair in candidates if value.keys() >= set(pair)), None)
