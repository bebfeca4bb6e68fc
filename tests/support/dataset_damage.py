"""Breaking data files in the ways in which files break."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random


def damaged(data: bytes, other: bytes, source: random.Random) -> bytes:
    """Return the data cut, flipped, doubled, or mixed with other data."""
    at, to = sorted(source.randrange(len(data) + 1) for _ in range(2))
    noise = source.choice(
        [b"\0", b"\xff", b"\n", b'"', b"{", b"}", b"[", b",", b"\\", b"\r", b"\xed\xa0\x80", b"1e9"]
    )
    return source.choice(
        [
            data[:at],
            data[at:],
            data[:at] + data[to:],
            data[:to] + data[at:],
            data[:at] + noise + data[at:],
            data[:at] + noise + data[to:],
            data[:at] + other + data[at:],
            data + other,
            data[::-1],
            bytes(byte ^ (source.random() < 0.02) for byte in data),
        ]
    )
