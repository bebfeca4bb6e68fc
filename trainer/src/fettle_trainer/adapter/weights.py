"""Reading an adapter's weights once: structure, names, shapes, every number finite, and the file's SHA-256."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fettle_trainer.adapter.errors import AdapterRefusedError
from fettle_trainer.adapter.finite import first_not_finite
from fettle_trainer.adapter.layout import WEIGHTS_NAME, LoraLayout, check_layout
from fettle_trainer.adapter.tensorfile import DTYPE_BYTES, LENGTH_BYTES, header_length, parse_header
from fettle_trainer.config.adapter import FileRecord
from fettle_trainer.config.verification import RefusalCode
from fettle_trainer.strict_json import shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fettle_trainer.adapter.directory import AdapterDirectory
    from fettle_trainer.adapter.peft_config import PeftConfig
    from fettle_trainer.adapter.tensorfile import Tensor

_PIECE_BYTES: Final = 2**20
"""Memory stays at this size whatever the file's; a multiple of every dtype's."""


@dataclass(frozen=True)
class TensorFile:
    """What reading a safetensors file has shown."""

    record: FileRecord
    tensors: tuple[Tensor, ...]
    nonzero: frozenset[str]
    """Names of the tensors with any byte that is not zero."""


@dataclass(frozen=True)
class Weights:
    """What reading an adapter's weights has shown."""

    record: FileRecord
    layout: LoraLayout
    tensor_count: int
    untrained: bool


def read_weights(directory: AdapterDirectory, config: PeftConfig) -> Weights:
    """Read an adapter's safetensors file; its names and shapes are checked before its numbers are read."""
    layouts: list[LoraLayout] = []
    file = read_tensorfile(
        directory, WEIGHTS_NAME, lambda tensors: layouts.append(check_layout(tensors, config))
    )
    return Weights(
        record=file.record,
        layout=layouts[0],
        tensor_count=len(file.tensors),
        untrained=not file.nonzero & layouts[0].gain_tensors,
    )


def read_tensorfile(
    directory: AdapterDirectory, path: str, check: Callable[[list[Tensor]], None]
) -> TensorFile:
    """Read a safetensors file from the first byte to the last, in one pass; `check` sees its header first."""
    size = directory.entry(path).size
    digest = hashlib.sha256()
    with directory.reader(path) as read:

        def read_hashed(count: int) -> bytes:
            data = read(count)
            digest.update(data)
            return data

        prefix = read_hashed(min(LENGTH_BYTES, size))
        header = read_hashed(header_length(prefix, size, path))
        tensors = parse_header(header, size, path)
        del header
        check(tensors)
        nonzero = frozenset(tensor.name for tensor in tensors if _read_tensor(tensor, path, read_hashed))
    return TensorFile(
        record=FileRecord(path=path, sha256=digest.hexdigest(), size_bytes=size),
        tensors=tuple(tensors),
        nonzero=nonzero,
    )


def _read_tensor(tensor: Tensor, path: str, read: Callable[[int], bytes]) -> bool:
    """Refuse the tensor if a number in it is not finite; else say whether any differs from zero."""
    nonzero = False
    position = 0
    for piece in _pieces(tensor.end - tensor.start, read):
        bad = first_not_finite(piece, tensor.dtype)
        if bad is not None:
            index = position // DTYPE_BYTES[tensor.dtype] + bad
            raise AdapterRefusedError(
                RefusalCode.WEIGHTS_NOT_FINITE,
                f"Tensor {shown(tensor.name)} of {path} holds NaN or infinity at element {index}: the training "
                "diverged. Train again with a lower learning rate, or import an earlier checkpoint.",
                path,
            )
        nonzero = nonzero or piece.count(0) != len(piece)
        position += len(piece)
    return nonzero


def _pieces(size: int, read: Callable[[int], bytes]) -> Iterator[bytes]:
    for start in range(0, size, _PIECE_BYTES):
        yield read(min(_PIECE_BYTES, size - start))
