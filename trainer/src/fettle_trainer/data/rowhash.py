"""The name of a row by content: equal rows have equal hashes, in whatever file and spelling they stand."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.examples import RowError

if TYPE_CHECKING:
    from fettle_trainer.data.examples import Example

HASH_BYTES: Final = 16
"""Two different rows among 10^9 share 128 bits with a chance of 10^-21."""
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)


def row_hash(example: Example) -> bytes:
    """Return the hash, or raise RowError for text that has no UTF-8 form."""
    # Lengths before the texts: no two different rows give the same string.
    parts = []
    for turn in example.turns:
        calls = "" if turn.calls is None else _ENCODER.encode(turn.calls)
        parts.append(f"{turn.role} {turn.trained:d} {len(turn.text)} {len(calls)} {turn.text}{calls}")
    rest = (
        ""
        if example.label is None and example.tools is None
        else _ENCODER.encode([example.label, example.tools])
    )
    text = "".join((*parts, rest))
    try:
        data = text.encode("utf-8")
    except UnicodeEncodeError as error:
        message = "The row holds half a surrogate pair (\\ud800 to \\udfff), which is no character."
        raise RowError(FindingCode.NOT_UTF8, "", message) from error
    return hashlib.blake2b(data, digest_size=HASH_BYTES).digest()


def leading_number(row: bytes) -> int:
    """Return the number that a hash begins with, evenly spread over 64 bits: what a split decides by."""
    return int.from_bytes(row[:8], "big")
