"""One data file from its first byte to its last row, whatever its kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.csvrows import read_csv
from fettle_trainer.data.jsonarray import read_json
from fettle_trainer.data.jsonl import read_jsonl
from fettle_trainer.data.parquet import read_parquet
from fettle_trainer.data.problems import DataFileError
from fettle_trainer.data.streams import TextSource, open_data_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fettle_trainer.data.files import DataFile
    from fettle_trainer.data.problems import BadRow, Row
    from fettle_trainer.data.streams import Source

_TEXT_READERS: Final[dict[str, Callable[[Source], Iterator[Row | BadRow]]]] = {
    "jsonl": read_jsonl,
    "json": read_json,
    "csv": read_csv,
}


class DataFileReader:
    """Iterates over a file's rows and problems; afterwards its digest and size are known."""

    def __init__(self, file: DataFile) -> None:
        self._file = file
        self.sha256: str | None = None
        self.size_bytes = 0

    def __iter__(self) -> Iterator[Row | BadRow]:
        with open_data_file(self._file) as raw:
            if self._file.kind != "parquet":
                source = TextSource(raw, self._file.compression, self._file.name)
                yield from _TEXT_READERS[self._file.kind](source)
            elif self._file.compression:
                raise DataFileError(
                    FindingCode.FILE_KIND_UNKNOWN,
                    f"{self._file.name}: Parquet files are compressed inside. Decompress it.",
                )
            else:
                yield from read_parquet(raw.whole(), self._file.name)
            self.sha256 = raw.finish()
            self.size_bytes = raw.position
