"""Reading a JSON file: a list of objects, item by item, without ever holding the whole list.

Many files called .json hold JSON Lines; those are recognised by their first character and read as such.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Final

from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.jsonl import read_jsonl, too_long
from fettle_trainer.data.problems import BadRow, DataFileError
from fettle_trainer.data.streams import CHUNK_BYTES
from fettle_trainer.data.values import DECODER, MAX_ROW_BYTES, as_row, bad_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fettle_trainer.data.problems import Row
    from fettle_trainer.data.streams import Source

_BLANKS: Final = re.compile(r"[ \t\r\n]*")
_LONGEST_WORD: Final = 16
"""An error so close to the end of what is held may only mean that a word or an escape goes on."""
_REST: Final = "The list cannot be read on behind this; put it right and check again."


def read_json(source: Source) -> Iterator[Row | BadRow]:
    """Yield the items of a list, or the lines of JSON Lines."""
    first = source.read(CHUNK_BYTES)
    again = _Ahead(first, source)
    if first.lstrip()[:1] == b"[":
        yield from _read_list(_Text(again))
    elif _is_one_pretty_object(first):
        raise DataFileError(
            FindingCode.FILE_MALFORMED,
            "The file is one object over several lines. A .json file is a list of objects, "
            'such as [{"text": "…"}, …]; JSON Lines has one object per line.',
            line=1,
        )
    else:
        yield from read_jsonl(again)


def _is_one_pretty_object(head: bytes) -> bool:
    lines = head.lstrip().split(b"\n", 1)
    return len(lines) == 2 and lines[0].strip() in {b"{", b"{}"} and b"}" not in lines[0]


def _read_list(text: _Text) -> Iterator[Row | BadRow]:
    text.skip_blanks()
    text.take()
    if text.skip_blanks() == "]":
        text.take()
    else:
        while True:
            item = text.item()
            yield item
            if isinstance(item, BadRow) and item.code is not FindingCode.NOT_AN_OBJECT:
                raise DataFileError(FindingCode.FILE_MALFORMED, _REST, line=item.line)
            if not _more(text):
                break
    if text.skip_blanks():
        raise DataFileError(FindingCode.FILE_MALFORMED, "Something stands behind the list.", line=text.line)


def _more(text: _Text) -> bool:
    """Step over what stands between two items; False at the end of the list."""
    mark = text.skip_blanks()
    if mark not in {",", "]"}:
        found = f"found {mark!r}" if mark else "the file ends"
        raise DataFileError(
            FindingCode.FILE_MALFORMED,
            f"Expected ',' or ']' behind an item, but {found}. {_REST}",
            line=text.line,
        )
    text.take()
    if mark == "]":
        return False
    if text.skip_blanks() == "]":
        raise DataFileError(
            FindingCode.FILE_MALFORMED, "A ',' stands behind the last item; remove it.", line=text.line
        )
    return True


class _Ahead:
    """A source with some bytes put back."""

    def __init__(self, head: bytes, source: Source) -> None:
        self._head = head
        self._source = source

    def read(self, size: int, /) -> bytes:
        if self._head:
            data, self._head = self._head[:size], self._head[size:]
            return data
        return self._source.read(size)


class _Text:
    """Decoded text with a position, of which only what is still needed is held."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._held = ""
        self._position = 0
        self._ended = False
        self.line = 1

    def skip_blanks(self) -> str:
        """Move to the next character that is no blank and return it; empty at the end."""
        while True:
            self._advance(_BLANKS.match(self._held, self._position).end() - self._position)  # type: ignore[union-attr]  # matches nothing too
            if self._position < len(self._held):
                return self._held[self._position]
            if not self._more():
                return ""

    def take(self) -> None:
        """Step over one character."""
        self._advance(1)

    def item(self) -> Row | BadRow:
        """Decode the value at the position and step over it."""
        line = self.line
        wanted = CHUNK_BYTES
        while True:
            problem: Exception
            try:
                value, end = DECODER.raw_decode(self._held, self._position)
            except json.JSONDecodeError as error:
                problem = error
                if not error.msg.startswith("Unterminated") and error.pos < len(self._held) - _LONGEST_WORD:
                    return self._located(error, line)
            except (ValueError, RecursionError) as error:
                return bad_json(error, line)
            else:
                length = end - self._position
                # A number at the very end of what is held may go on.
                if end < len(self._held) or not self._hold(length + 1):
                    self._advance(length)
                    return as_row(value, line)
                continue
            if len(self._held) - self._position > MAX_ROW_BYTES:
                return too_long(line)
            # Doubled each time, so that a long item is not parsed again for every chunk.
            if not self._hold(wanted):
                return self._located(problem, line)
            wanted = min(2 * wanted, MAX_ROW_BYTES + 1)

    def _located(self, problem: Exception, line: int) -> BadRow:
        if isinstance(problem, json.JSONDecodeError):
            before = self._held[self._position : problem.pos]
            line += before.count("\n")
            column = problem.pos - max(self._held.rfind("\n", 0, problem.pos), 0)
            message = f"Not valid JSON: {problem.msg[:1].lower()}{problem.msg[1:]}."
            return BadRow(line, FindingCode.INVALID_JSON, message, column=max(column, 1))
        return bad_json(problem, line)

    def _advance(self, count: int) -> None:
        self.line += self._held.count("\n", self._position, self._position + count)
        self._position += count

    def _hold(self, characters: int) -> bool:
        """Read on until so many characters are held behind the position; False when nothing more came."""
        grown = False
        while len(self._held) - self._position < characters and self._more():
            grown = True
        return grown

    def _more(self) -> bool:
        if self._ended:
            return False
        data = self._source.read(CHUNK_BYTES)
        self._ended = not data
        try:
            decoded = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise DataFileError(
                FindingCode.NOT_UTF8,
                f"The file is not UTF-8 ({error.reason}). {_REST}",
                line=self._line_of(error),
            ) from error
        self._held = self._held[self._position :] + decoded
        self._position = 0
        return bool(decoded)

    def _line_of(self, error: UnicodeDecodeError) -> int:
        return self.line + self._held.count("\n", self._position) + error.object.count(b"\n", 0, error.start)
