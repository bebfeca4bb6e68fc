"""The text of one answer, made of its tokens as they come."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING

from fettle_server.engine.stop_strings import StopStrings

if TYPE_CHECKING:
    from fettle_server.engine.token_bytes import TokenBytes


class AnswerText:
    """Turns tokens into text that never ends inside of a character or of what may become a stop string."""

    def __init__(self, tokens: TokenBytes, stops: tuple[str, ...]) -> None:
        self._tokens = tokens
        self._stops = StopStrings(stops)
        # A byte that cannot belong to any character becomes U+FFFD at once, as in the tokenizers' own decoding.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._leading_spaces = tokens.leading_spaces

    @property
    def holds(self) -> bool:
        """Whether a part of the text is held back."""
        return self._stops.holds or bool(self._decoder.getstate()[0])

    def push(self, token: int) -> tuple[str, bool]:
        """Take a token; return the text that is certain by now, and whether a stop string was found."""
        if self._tokens.is_special(token):
            return "", False
        return self._stops.push(self._begun(self._decoder.decode(self._tokens.bytes_of(token))))

    def rest(self) -> str:
        """Return the text held back; an unfinished character at its end is left out."""
        return self._stops.rest()

    def _begun(self, text: str) -> str:
        """Leave out the spaces that the tokenizer puts before a text."""
        if not (self._leading_spaces and text):
            return text
        spaces = min(self._leading_spaces, len(text) - len(text.lstrip(" ")))
        text = text[spaces:]
        self._leading_spaces = 0 if text else self._leading_spaces - spaces
        return text
