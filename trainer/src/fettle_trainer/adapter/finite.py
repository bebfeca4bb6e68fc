"""Finding NaN and infinity in raw tensor bytes without an array library.

A float that is not finite has all exponent bits set, so its highest byte is one of very few values. Slicing out
every n-th byte and asking for those values is a memory scan in C; only a chunk with a hit, which also very large
finite numbers cause, is decoded value by value.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class _FloatFormat:
    size: int
    suspicious: tuple[bytes, ...]
    """Values of the highest byte that a non-finite number can have."""
    decode: Callable[[bytes], tuple[float, ...]]


def first_not_finite(chunk: bytes, dtype: str) -> int | None:
    """Return the index of the first NaN or infinity among the chunk's values; None if all are finite.

    The chunk holds whole little-endian values. Integer types have no such values.
    """
    form = _FORMATS.get(dtype)
    if form is None:
        return None
    high = chunk[form.size - 1 :: form.size]
    if not any(byte in high for byte in form.suspicious):
        return None
    values = form.decode(chunk)
    if all(map(math.isfinite, values)):
        return None
    return next(index for index, value in enumerate(values) if not math.isfinite(value))


def _decoder(code: str, size: int) -> Callable[[bytes], tuple[float, ...]]:
    def decode(chunk: bytes) -> tuple[float, ...]:
        return struct.unpack(f"<{len(chunk) // size}{code}", chunk)

    return decode


def _decode_bfloat16(chunk: bytes) -> tuple[float, ...]:
    """bfloat16 is the upper half of a float32."""
    widened = bytearray(2 * len(chunk))
    widened[2::4] = chunk[0::2]
    widened[3::4] = chunk[1::2]
    return _DECODE_FLOAT32(bytes(widened))


def _decode_suspicious_as_nan(suspicious: tuple[bytes, ...]) -> Callable[[bytes], tuple[float, ...]]:
    """For 8-bit floats the byte itself says whether the number is finite."""
    table = [math.nan if bytes([byte]) in suspicious else 0.0 for byte in range(256)]

    def decode(chunk: bytes) -> tuple[float, ...]:
        return tuple(table[byte] for byte in chunk)

    return decode


def _each(*values: int) -> tuple[bytes, ...]:
    return tuple(bytes([value]) for value in values)


_DECODE_FLOAT32: Final = _decoder("f", 4)
_FIVE_EXPONENT_BITS: Final = _each(0x7C, 0x7D, 0x7E, 0x7F, 0xFC, 0xFD, 0xFE, 0xFF)
_SEVEN_EXPONENT_BITS: Final = _each(0x7F, 0xFF)
_FORMATS: Final = {
    "F64": _FloatFormat(8, _SEVEN_EXPONENT_BITS, _decoder("d", 8)),
    "F32": _FloatFormat(4, _SEVEN_EXPONENT_BITS, _DECODE_FLOAT32),
    "BF16": _FloatFormat(2, _SEVEN_EXPONENT_BITS, _decode_bfloat16),
    "F16": _FloatFormat(2, _FIVE_EXPONENT_BITS, _decoder("e", 2)),
    "F8_E5M2": _FloatFormat(1, _FIVE_EXPONENT_BITS, _decode_suspicious_as_nan(_FIVE_EXPONENT_BITS)),
    "F8_E4M3": _FloatFormat(1, _SEVEN_EXPONENT_BITS, _decode_suspicious_as_nan(_SEVEN_EXPONENT_BITS)),
}
