"""The structure of a safetensors file, checked as strictly as the format is written.

The format: 8 bytes little-endian header length N, N bytes of JSON, then the tensors' bytes without a gap. Every
rule that the reference implementation enforces is enforced here, so what passes can be loaded, and nothing hides
between or behind the tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, NoReturn, cast

from fettle_trainer import strict_json
from fettle_trainer.adapter.errors import AdapterRefusedError
from fettle_trainer.config.verification import RefusalCode
from fettle_trainer.strict_json import StrictJsonError, shown

LENGTH_BYTES: Final = 8
MAX_HEADER_BYTES: Final = 24 * 2**20
"""The format allows 100 MB; parsing that many would need more memory than verification may use."""
MAX_TENSORS: Final = 150_000

DTYPE_BYTES: Final = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E5M2": 1,
    "F8_E4M3": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
}
_METADATA_KEY: Final = "__metadata__"
_ENTRY_KEYS: Final = frozenset({"dtype", "shape", "data_offsets"})
_MAX_DIMENSIONS: Final = 8
_MAX_EXTENT: Final = 2**48


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of the file; offsets are counted from the end of the header."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def header_length(prefix: bytes, file_size: int, file: str) -> int:
    """Return the length of the JSON header, from the file's first 8 bytes."""
    if len(prefix) < LENGTH_BYTES:
        _malformed(f"it ends after {len(prefix)} bytes, inside the header's length", file)
    length = int.from_bytes(prefix[:LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        _malformed(f"its header claims {length} bytes; at most {MAX_HEADER_BYTES} are accepted", file)
    if LENGTH_BYTES + length > file_size:
        _malformed(f"its header claims {length} bytes, but the file has only {file_size}", file)
    if length == 0:
        _malformed("its header is empty", file)
    return length


def parse_header(header: bytes, file_size: int, file: str) -> list[Tensor]:
    """Return the tensors in the order of their bytes, proven to fill the file exactly."""
    document = _load_header(header, file)
    _check_metadata(document.pop(_METADATA_KEY, {}), file)
    tensors = [_tensor(name, entry, file) for name, entry in document.items()]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.end))
    _check_layout(tensors, file_size - LENGTH_BYTES - len(header), file)
    return tensors


def _load_header(header: bytes, file: str) -> dict[str, Any]:
    if not header.startswith(b"{"):
        _malformed("its header does not begin with '{'", file)
    # Counted before parsing, so that a hostile header cannot make the parser build more than it may.
    if header.count(b"{") > MAX_TENSORS + 2 or header.count(b"[") > 2 * MAX_TENSORS:
        raise AdapterRefusedError(
            RefusalCode.TOO_LARGE,
            f"{file} names more than {MAX_TENSORS} tensors, the most that are read.",
            file,
        )
    if header.count(b",") > 16 * (header.count(b"{") + 8):
        _malformed("its header holds far more values than tensors", file)
    try:
        document = strict_json.loads(header)
    except StrictJsonError as error:
        _malformed(f"its header is no JSON ({error})", file)
    return cast("dict[str, Any]", document)


def _check_metadata(metadata: object, file: str) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        _malformed(f"{_METADATA_KEY} is not an object of strings", file)


def _tensor(name: str, entry: object, file: str) -> Tensor:
    if not isinstance(entry, dict) or entry.keys() != _ENTRY_KEYS:
        _malformed(
            f"the entry of tensor {shown(name)} is not an object of dtype, shape and data_offsets", file
        )
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        _malformed(f"tensor {shown(name)} has the unknown dtype {shown(str(dtype))}", file)
    if not _are_extents(shape) or len(shape) > _MAX_DIMENSIONS:
        _malformed(
            f"the shape of tensor {shown(name)} is not a list of at most {_MAX_DIMENSIONS} sizes", file
        )
    if not _are_extents(offsets) or len(offsets) != 2:
        _malformed(f"data_offsets of tensor {shown(name)} are not two byte positions", file)
    start, end = offsets
    if end - start != math.prod(shape) * DTYPE_BYTES[dtype]:
        _malformed(
            f"tensor {shown(name)} of shape {shape} and dtype {dtype} does not fit in its {end - start} bytes",
            file,
        )
    return Tensor(name, dtype, tuple(shape), start, end)


def _are_extents(values: object) -> bool:
    # bool is a subclass of int; `true` is no size.
    return isinstance(values, list) and all(
        type(value) is int and 0 <= value <= _MAX_EXTENT for value in values
    )


def _check_layout(tensors: list[Tensor], data_bytes: int, file: str) -> None:
    position = 0
    for tensor in tensors:
        if tensor.start < position:
            _malformed(f"tensor {shown(tensor.name)} overlaps the one before it", file)
        if tensor.start > position:
            gap = tensor.start - position
            _malformed(f"{gap} bytes before tensor {shown(tensor.name)} belong to no tensor", file)
        position = tensor.end
    if position > data_bytes:
        _malformed(f"it is cut off: its tensors need {position} bytes, {data_bytes} are there", file)
    if position < data_bytes:
        _malformed(f"{data_bytes - position} bytes behind the last tensor belong to no tensor", file)


def _malformed(problem: str, file: str) -> NoReturn:
    raise AdapterRefusedError(
        RefusalCode.WEIGHTS_MALFORMED,
        f"{file} is not a sound safetensors file: {problem}. Copy or export it again.",
        file,
    )
