"""Reading Parquet, batch by batch, with pyarrow."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.problems import DataFileError, Row

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fettle_trainer.data.problems import BadRow

_BATCH_ROWS: Final = 256
_MAX_ROW_GROUP_BYTES: Final = 2**30
"""A row group is decoded column by column; a larger one would not fit in the memory of a check."""


def read_parquet(file: BinaryIO, name: str) -> Iterator[Row | BadRow]:
    """Yield the rows; they have no lines, so they are counted from 1."""
    try:
        # Imported when needed, because nothing but a Parquet file needs it.
        pa: Any = importlib.import_module("pyarrow")
        pq: Any = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise DataFileError(
            FindingCode.FILE_UNREADABLE, f"{name} needs pyarrow to be read, which is not installed."
        ) from error
    number = 0
    try:
        # pre_buffer would read whole row groups ahead.
        table = pq.ParquetFile(file, pre_buffer=False, memory_map=False)
        _check_row_groups(table.metadata, name)
        for batch in table.iter_batches(batch_size=_BATCH_ROWS, use_threads=False):
            for value in batch.to_pylist():
                number += 1
                yield Row(number, cast("dict[str, Any]", value))
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        sentence = str(error).split("\n", 1)[0][:200].rstrip(".")
        raise DataFileError(
            FindingCode.FILE_MALFORMED,
            f"{name} cannot be read as Parquet behind row {number}: {sentence}. Write it again.",
            line=number or None,
        ) from error


def _check_row_groups(metadata: Any, name: str) -> None:
    sizes = [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]
    if max(sizes, default=0) > _MAX_ROW_GROUP_BYTES:
        raise DataFileError(
            FindingCode.TOO_LARGE,
            f"{name} has a row group of {max(sizes)} bytes. Write it again in row groups of at most "
            f"{_MAX_ROW_GROUP_BYTES} bytes.",
        )
