"""XXH32, the hash that HAProxy uses to place a sticky key, so that anybody can predict where a key lands.

Only tests, the operator's predictions and tools call it; requests are hashed by HAProxy itself. A test holds
both to the same values.
"""

from typing import Final

__all__ = ["xxh32"]

_MASK: Final = 0xFFFFFFFF
_PRIME_1: Final = 2654435761
_PRIME_2: Final = 2246822519
_PRIME_3: Final = 3266489917
_PRIME_4: Final = 668265263
_PRIME_5: Final = 374761393
_STRIPE: Final = 16


def xxh32(data: bytes, seed: int = 0) -> int:
    """Return the 32-bit xxHash of some bytes."""
    whole = len(data) - len(data) % _STRIPE
    mixed = _stripes(data[:whole], seed) if whole else (seed + _PRIME_5) & _MASK
    return _avalanche(_tail(data[whole:], (mixed + len(data)) & _MASK))


def _stripes(data: bytes, seed: int) -> int:
    lanes = [seed + _PRIME_1 + _PRIME_2, seed + _PRIME_2, seed, seed - _PRIME_1]
    for start in range(0, len(data), 4):
        lane = start // 4 % 4
        word = int.from_bytes(data[start : start + 4], "little")
        lanes[lane] = _rotate((lanes[lane] + word * _PRIME_2) & _MASK, 13) * _PRIME_1 & _MASK
    return sum(_rotate(lane, turn) for lane, turn in zip(lanes, (1, 7, 12, 18), strict=True)) & _MASK


def _tail(data: bytes, mixed: int) -> int:
    words = len(data) - len(data) % 4
    for start in range(0, words, 4):
        word = int.from_bytes(data[start : start + 4], "little")
        mixed = _rotate((mixed + word * _PRIME_3) & _MASK, 17) * _PRIME_4 & _MASK
    for byte in data[words:]:
        mixed = _rotate((mixed + byte * _PRIME_5) & _MASK, 11) * _PRIME_1 & _MASK
    return mixed


def _avalanche(mixed: int) -> int:
    mixed = (mixed ^ mixed >> 15) * _PRIME_2 & _MASK
    mixed = (mixed ^ mixed >> 13) * _PRIME_3 & _MASK
    return mixed ^ mixed >> 16


def _rotate(word: int, turn: int) -> int:
    return (word << turn | word >> 32 - turn) & _MASK
