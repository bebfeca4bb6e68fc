"""From examples to token ids, and which of them are trained."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

import numpy as np

from fettle_trainer.errors import WrongInputError
from fettle_trainer.text.answers import AnswerFinder
from fettle_trainer.text.template import chat_template

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

    from fettle_trainer.config.dataset import RowFormat
    from fettle_trainer.data.examples import Example, Turn
    from fettle_trainer.text.template import Span

TrainOn = Literal["auto", "assistant", "completion", "all"]

_CONVERSATIONS: Final = frozenset({"chat", "sharegpt"})
LABEL_SEPARATOR: Final = "\n\n"
"""What stands between a text and its label where no chat template tells them apart."""


class Encoded(NamedTuple):
    """One row as tokens."""

    input_ids: list[int]
    trained: list[bool]
    """For each token, whether it is a target. The first never is: nothing comes before it."""


class Prompt(NamedTuple):
    """What generation starts from, and what the data answers."""

    input_ids: list[int]
    reference: str
    label: str | None


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


class Encoder:
    """Renders and tokenises the rows of one format with one tokenizer."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        row_format: RowFormat,
        train_on: TrainOn = "auto",
        labels: tuple[str, ...] = (),
    ) -> None:
        self.template = chat_template(tokenizer) if row_format != "text" else None
        self.labels = labels
        self._tokenizer = tokenizer
        self._format = row_format
        self._train_on = _checked(train_on, row_format)
        self._bos: int | None = _own_bos(tokenizer)
        self._eos: int | None = tokenizer.eos_token_id
        if self.template is None and row_format in _CONVERSATIONS:
            msg = "The model has no chat template, which conversations need. Use a chat model, or prompts and completions."
            raise WrongInputError("TemplateMissing", msg, "model.path")
        if self.template is None and self._eos is None:
            msg = "The tokenizer names no eos_token, so the model could not learn where an answer ends. Name one."
            raise WrongInputError("TokenizerInvalid", msg, "model.path")
        self._answers = AnswerFinder(self.template, _control_tokens(tokenizer)) if self.template else None

    def encode(self, example: Example) -> Encoded:
        """Return a row's tokens; raise RowError if the model's template cannot write it."""
        (row,) = self.rows([self.rendered(example)])
        return Encoded(row.input_ids.tolist(), row.trained.tolist())

    def prompt(self, example: Example) -> Prompt:
        """Return what the row's last answer is generated from, and that answer."""
        rendered = self.rendered(example)
        (row,) = self.rows([rendered])
        return Prompt(row.input_ids[: row.prompt_length].tolist(), rendered.reference, example.label)

    def rendered(self, example: Example) -> Rendered:
        """Write a row as text; raise RowError if that cannot be done."""
        if self._format == "text":
            return self._plain(("", example.turns[0].text))
        turns = example.turns
        if self._format == "classification":
            turns = _asked_for_label(turns[0], example.label or "")
        if self._answers is not None:
            return self._conversation(self._answers, example._replace(turns=turns))
        *prompt, answer = turns
        parts = "\n\n".join(turn.text for turn in prompt)
        return self._plain((parts + (LABEL_SEPARATOR if self._separates else ""), answer.text))

    @property
    def _separates(self) -> bool:
        """Pairs are joined as they stand: their owner decided about the white space between them."""
        return self._format != "prompt-completion"

    def rows(self, rendered: Sequence[Rendered]) -> list[EncodedRow]:
        """Tokenise many rows at once, which is several times faster than one by one."""
        encodings = self._backend_batch([row.text for row in rendered])
        return [self._row(row, encoding) for row, encoding in zip(rendered, encodings, strict=True)]

    def _plain(self, parts: tuple[str, str]) -> Rendered:
        asked, answer = parts
        text = asked + answer
        start = 0 if self._train_on == "all" else len(asked)
        cut = len(asked) if self._format != "text" else _middle(text)
        cuts = (cut,) if asked else ()
        return Rendered(text, ((start, len(text)),), cut, cuts, text[cut:].strip(), begins=True, ends=True)

    def _conversation(self, finder: AnswerFinder, example: Example) -> Rendered:
        text, answers, ended = finder.conversation(example)
        trained = [answer for answer in answers if example.turns[answer.turn].trained]
        if self._train_on == "completion":
            trained = trained[-1:]
        last = trained[-1]
        ends = not ended and last is answers[-1]
        # Nothing behind the last trained token changes anything: no loss, and no token that has one.
        text = text[: last.end]
        cuts = tuple(answer.asked for answer in trained)
        spans = tuple((answer.start, answer.end) for answer in trained)
        if self._train_on == "all":
            spans = ((0, len(text)),)
        reference = finder.words(text, last)
        return Rendered(text, spans, last.asked, cuts, reference, begins=False, ends=ends)

    def _row(self, rendered: Rendered, encoding: Encoding) -> EncodedRow:
        if any(_straddled(encoding, rendered.text, cut) for cut in rendered.cuts):
            return self._finished(rendered, *self._in_pieces(rendered))
        ids = np.asarray(encoding.ids, dtype=np.int32)
        trained = np.zeros(len(ids), dtype=bool)
        for start, end in rendered.trained:
            trained[_token_at(encoding, start, end) : _token_at(encoding, end, len(rendered.text))] = True
        return self._finished(
            rendered, ids, trained, _token_at(encoding, rendered.answer, len(rendered.text))
        )

    def _in_pieces(self, rendered: Rendered) -> tuple[np.ndarray, np.ndarray, int]:
        """Tokenise each answer apart from its prompt, as the prompt stands alone when the model generates."""
        ends = (end for _, end in rendered.trained)
        bounds = sorted({0, len(rendered.text), *rendered.cuts, *ends})
        pieces = list(pairwise(bounds))
        encodings = self._backend_batch([rendered.text[start:end] for start, end in pieces])
        ids = [np.asarray(encoding.ids, dtype=np.int32) for encoding in encodings]
        inside = [any(a <= start < b for a, b in rendered.trained) for start, _ in pieces]
        trained = [np.full(len(part), flag) for part, flag in zip(ids, inside, strict=True)]
        before = sum(
            len(part) for part, (start, _) in zip(ids, pieces, strict=True) if start < rendered.answer
        )
        return np.concatenate(ids), np.concatenate(trained), before

    def _finished(
        self, rendered: Rendered, ids: np.ndarray, trained: np.ndarray, prompt_length: int
    ) -> EncodedRow:
        if rendered.begins and self._bos is not None and (not len(ids) or ids[0] != self._bos):
            ids, trained = np.insert(ids, 0, self._bos), np.insert(trained, 0, values=False)
            prompt_length += 1
        if rendered.ends and self._eos is not None and (not len(ids) or ids[-1] != self._eos):
            ids, trained = np.append(ids, np.int32(self._eos)), np.append(trained, values=True)
        trained[:1] = False
        return EncodedRow(ids, trained, max(prompt_length, 1))

    def _backend_batch(self, texts: list[str]) -> list[Encoding]:
        # The Rust tokenizer itself: the wrapper around it turns every offset into a Python object.
        encodings: list[Encoding] = self._tokenizer.backend_tokenizer.encode_batch(
            texts, add_special_tokens=False
        )
        return encodings


def _checked(train_on: TrainOn, row_format: RowFormat) -> TrainOn:
    if row_format == "text" and train_on in {"assistant", "completion"}:
        msg = f"trainOn {train_on} has no meaning for plain texts, of which all is trained. Leave it out, or use pairs."
        raise WrongInputError("SettingInvalid", msg, "training.loss.trainOn")
    return train_on


def _asked_for_label(text: Turn, label: str) -> tuple[Turn, ...]:
    return text._replace(role="user", trained=False), text._replace(
        role="assistant", text=label, trained=True
    )


def _middle(text: str) -> int:
    """Return where a plain text, which has no answer, is cut if one is wanted: its second half continues the first."""
    half = len(text) // 2
    space = text.find(" ", half)
    return half if space < 0 else space


def _own_bos(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Return the BOS token if the tokenizer begins a text with it."""
    begun = tokenizer("a")["input_ids"]
    bos: int | None = tokenizer.bos_token_id
    return bos if bos is not None and begun[:1] == [bos] else None


def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return frozenset(added | set(tokenizer.all_special_tokens))


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
