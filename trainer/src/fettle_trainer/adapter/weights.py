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
class Weights:
    """What reading the weights has shown."""

    record: FileRecord
    layout: LoraLayout
    tensor_count: int
    untrained: bool


def read_weights(directory: AdapterDirectory, config: PeftConfig) -> Weights:
    """Read the safetensors file from the first byte to the last, in one pass."""
    size = directory.entry(WEIGHTS_NAME).size
    digest = hashlib.sha256()
    with directory.reader(WEIGHTS_NAME) as read:

        def read_hashed(count: int) -> bytes:
            data = read(count)
            digest.update(data)
            return data

        prefix = read_hashed(min(LENGTH_BYTES, size))
        header = read_hashed(header_length(prefix, size, WEIGHTS_NAME))
        tensors = parse_header(header, size, WEIGHTS_NAME)
        del header
        layout = check_layout(tensors, config)
        trained = [_read_tensor(tensor, read_hashed) for tensor in tensors]
    names = (tensor.name for tensor in tensors)
    return Weights(
        record=FileRecord(path=WEIGHTS_NAME, sha256=digest.hexdigest(), size_bytes=size),
        layout=layout,
        tensor_count=len(tensors),
        untrained=not any(
            nonzero for name, nonzero in zip(names, trained, strict=True) if name in layout.gain_tensors
        ),
    )


def _read_tensor(tensor: Tensor, read: Callable[[int], bytes]) -> bool:
    """Refuse the tensor if a number in it is not finite; else say whether any differs from zero."""
    nonzero = False
    position = 0
    for piece in _pieces(tensor.end - tensor.start, read):
        bad = first_not_finite(piece, tensor.dtype)
        if bad is not None:
            index = position // DTYPE_BYTES[tensor.dtype] + bad
            raise AdapterRefusedError(
                RefusalCode.WEIGHTS_NOT_FINITE,
                f"Tensor {shown(tensor.name)} of {WEIGHTS_NAME} holds NaN or infinity at element {index}: the training "
                "diverged. Train again with a lower learning rate, or import an earlier checkpoint.",
                WEIGHTS_NAME,
            )
        nonzero = nonzero or piece.count(0) != len(piece)
        position += len(piece)
    return nonzero


def _pieces(size: int, read: Callable[[int], bytes]) -> Iterator[bytes]:
    for start in range(0, size, _PIECE_BYTES):
        yield read(min(_PIECE_BYTES, size - start))
