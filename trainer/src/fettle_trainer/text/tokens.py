"""Tokenising rendered rows: many at once, with the places of the text found again among the tokens."""

from __future__ import annotations

from itertools import islice, pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

    from fettle_trainer.text.template import Span

_LONGEST: Final = 2**16
"""Bytes that are tokenised in one go: the tokenizer keeps some two hundred for each of them."""


class Rendered(NamedTuple):
    """One row as text, with the places that decide about its tokens."""

    text: str
    trained: tuple[Span, ...]
    answer: int
    """Where the last answer begins; the tokens before it are the prompt."""
    cuts: tuple[int, ...]
    """Where no token may reach across, because what stands before is tokenised alone when the model generates."""
    reference: str
    begins: bool
    """Whether BOS is put before it, because nothing in the text is one."""
    ends: bool
    """Whether EOS is put behind it, as a trained token."""


class EncodedRow(NamedTuple):
    """One row as arrays."""

    input_ids: np.ndarray
    trained: np.ndarray
    prompt_length: int


class RowTokenizer:
    """Turns rendered rows into tokens."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        # The Rust tokenizer itself: the wrapper around it turns every offset into a Python object.
        self._backend = tokenizer.backend_tokenizer
        self._bos: int | None = _own_bos(tokenizer)
        self._eos: int | None = tokenizer.eos_token_id

    def rows(self, rendered: Sequence[Rendered]) -> list[EncodedRow]:
        """Tokenise many rows at once, which is several times faster than one by one."""
        whole = [size_of(row.text) <= _LONGEST for row in rendered]
        together = iter(self._together([row for row, fits in zip(rendered, whole, strict=True) if fits]))
        return [
            self._finished(row, next(together) if fits else self._in_parts(row))
            for row, fits in zip(rendered, whole, strict=True)
        ]

    def _in_parts(self, row: Rendered) -> EncodedRow:
        """Tokenise a long row, of which no more than a part is in the tokenizer's memory at a time."""
        found = [self._together([part])[0] for part in _parts(row)]
        return EncodedRow(
            np.concatenate([part.input_ids for part in found]),
            np.concatenate([part.trained for part in found]),
            sum(part.prompt_length for part in found),
        )

    def _together(self, rendered: Sequence[Rendered]) -> list[EncodedRow]:
        encodings = self._encode([row.text for row in rendered])
        crossed = [
            any(_straddled(encoding, row.text, cut) for cut in row.cuts)
            for row, encoding in zip(rendered, encodings, strict=True)
        ]
        pieces = iter(
            self._encode(
                [
                    row.text[start:end]
                    for row, crosses in zip(rendered, crossed, strict=True)
                    if crosses
                    for start, end in _pieces(row)
                ]
            )
        )
        return [
            _joined(row, pieces) if crosses else _whole(row, encoding)
            for row, encoding, crosses in zip(rendered, encodings, crossed, strict=True)
        ]

    def _encode(self, texts: list[str]) -> list[Encoding]:
        encodings: list[Encoding] = self._backend.encode_batch(texts, add_special_tokens=False)
        return encodings

    def _finished(self, row: Rendered, found: EncodedRow) -> EncodedRow:
        ids, trained, prompt_length = found
        if row.begins and self._bos is not None and (not len(ids) or ids[0] != self._bos):
            ids, trained = np.insert(ids, 0, self._bos), np.insert(trained, 0, values=False)
            prompt_length += 1
        if row.ends and self._eos is not None and (not len(ids) or ids[-1] != self._eos):
            ids, trained = np.append(ids, np.int32(self._eos)), np.append(trained, values=True)
        trained[:1] = False
        return EncodedRow(ids, trained, max(prompt_length, 1))


def size_of(text: str) -> int:
    """Return how many bytes a text is to the tokenizer; a Chinese character is three."""
    return len(text) if text.isascii() else len(text.encode())


def _parts(row: Rendered) -> Iterator[Rendered]:
    """Cut a long row in front of spaces, where tokens begin; where there is none, anywhere."""
    start, length = 0, len(row.text)
    most = max(1, _LONGEST // size_of(max(row.text)))
    while start < length:
        end = min(start + most, length)
        space = row.text.rfind(" ", start + 1, end) if end < length else -1
        end = end if space < 0 else space
        yield _part(row, start, end)
        start = end


def _part(row: Rendered, start: int, end: int) -> Rendered:
    inside = ((max(a, start) - start, min(b, end) - start) for a, b in row.trained)
    return row._replace(
        text=row.text[start:end],
        trained=tuple((a, b) for a, b in inside if a < b),
        answer=min(max(row.answer, start), end) - start,
        cuts=tuple(cut - start for cut in row.cuts if start < cut < end),
    )


def _whole(row: Rendered, encoding: Encoding) -> EncodedRow:
    """Return the tokens of a text, which of them are trained, and how many stand before the answer."""
    ids = np.asarray(encoding.ids, dtype=np.int32)
    trained = np.zeros(len(ids), dtype=bool)
    length = len(row.text)
    for start, end in row.trained:
        trained[_token_at(encoding, start, length) : _token_at(encoding, end, length)] = True
    return EncodedRow(ids, trained, _token_at(encoding, row.answer, length))


def _pieces(row: Rendered) -> list[Span]:
    """Return the text in pieces, cut where an answer begins, as its prompt stands alone when the model generates."""
    edges = (edge for span in row.trained for edge in span)
    return list(pairwise(sorted({0, len(row.text), *row.cuts, *edges})))


def _joined(row: Rendered, encodings: Iterator[Encoding]) -> EncodedRow:
    """Do as `_whole` does, with the next encodings, one for each piece of the text."""
    pieces = _pieces(row)
    ids = [np.asarray(encoding.ids, dtype=np.int32) for encoding in islice(encodings, len(pieces))]
    inside = [any(a <= start < b for a, b in row.trained) for start, _ in pieces]
    trained = [np.full(len(part), flag) for part, flag in zip(ids, inside, strict=True)]
    before = sum(len(part) for part, (start, _) in zip(ids, pieces, strict=True) if start < row.answer)
    return EncodedRow(np.concatenate(ids), np.concatenate(trained), before)


def _own_bos(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the BOS token if the tokenizer begins a text with it."""
    begun = tokenizer("a")["input_ids"]
    bos: int | None = tokenizer.bos_token_id
    return bos if bos is not None and begun[:1] == [bos] else None


def _straddled(encoding: Encoding, text: str, cut: int) -> bool:
    """Say whether one token reaches from before the cut to behind it."""
    if not 0 < cut < len(text):
        return False
    at = encoding.char_to_token(cut)
    if at is None:
        return False
    start, _ = encoding.token_to_chars(at)
    # Some tokenizers leave a leading space out of a token's offsets although it belongs to the token.
    return start < cut or (text[cut - 1].isspace() and encoding.char_to_token(cut - 1) is None)


def _token_at(encoding: Encoding, start: int, end: int) -> int:
    """Return the first token that begins at a place of the text or behind it."""
    for place in range(start, end):
        token = encoding.char_to_token(place)
        if token is not None:
            return int(token)
    return len(encoding.ids)
