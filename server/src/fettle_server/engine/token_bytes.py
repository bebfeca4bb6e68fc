"""The bytes that each token of a vocabulary stands for.

A tokenizer's own decode() joins whole answers; a stream needs the bytes of one token, which may be a part of a
character. They follow from how the tokenizer's decoder is made, of which there are two kinds in use: byte-level
alphabets, and pieces of text with bytes as a last resort.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from fettle_server.engine.types import BaseRefusedError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BYTE_PIECE: Final = re.compile(r"<0x([0-9A-F]{2})>\Z")


class TokenBytes:
    """What the tokens of one tokenizer say."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        steps = list(_steps(json.loads(tokenizer.backend_tokenizer.decoder.__getstate__())))
        kinds = {step["type"] for step in steps}
        if not kinds <= {"ByteLevel", "Replace", "ByteFallback", "Fuse", "Strip", "Metaspace"}:
            unknown = ", ".join(sorted(kinds - {"ByteLevel", "Replace", "ByteFallback", "Fuse", "Strip"}))
            raise BaseRefusedError(
                f"The tokenizer joins its tokens by {unknown}, which this server does not know how to stream. "
                "Serve the model with another engine."
            )
        self._tokenizer = tokenizer
        self._is_byte_level = "ByteLevel" in kinds
        self._replaced = [
            (step["pattern"]["String"], step["content"]) for step in steps if step["type"] == "Replace"
        ]
        self._replaced += [(step["replacement"], " ") for step in steps if step["type"] == "Metaspace"]
        self.leading_spaces = _leading_spaces(steps)
        """How many spaces at the beginning of a text are no part of it."""
        self._added = tokenizer.added_tokens_decoder
        self._known: dict[int, bytes] = {}

    def is_special(self, token: int) -> bool:
        """Say whether a token steers the model and is no text."""
        added = self._added.get(token)
        return bool(added is not None and added.special)

    def bytes_of(self, token: int) -> bytes:
        """Return what a token stands for; nothing for a number that the vocabulary leaves unused."""
        found = self._known.get(token)
        if found is None:
            found = self._known[token] = self._look_up(token)
        return found

    def _look_up(self, token: int) -> bytes:
        added = self._added.get(token)
        if added is not None:
            return str(added.content).encode()
        piece = self._tokenizer.convert_ids_to_tokens(token)
        if not piece:
            return b""
        if self._is_byte_level:
            return b"".join(
                bytes([_BYTES[character]]) if character in _BYTES else character.encode()
                for character in piece
            )
        if match := _BYTE_PIECE.match(piece):
            return bytes([int(match.group(1), 16)])
        for old, new in self._replaced:
            piece = piece.replace(old, new)
        return str(piece).encode()


def _steps(decoder: dict[str, Any]) -> list[dict[str, Any]]:
    return decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]


def _leading_spaces(steps: list[dict[str, Any]]) -> int:
    for step in steps:
        if step["type"] == "Strip" and step["content"] == " ":
            return int(step["start"])
        if step["type"] == "Metaspace" and step.get("prepend_scheme") != "never":
            return 1
    return 0


def _alphabet() -> dict[str, int]:
    """Return which byte each character of the byte-level alphabet stands for, as GPT-2 began it.

    Printable bytes stand for themselves; the others are written as characters from 256 on, in their order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {
        chr(256 + place): byte for place, byte in enumerate(others)
    }


_BYTES: Final = _alphabet()
