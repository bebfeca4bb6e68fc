"""From examples to token ids, and which of them are trained: the rendering of every format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from fettle_trainer.errors import WrongInputError
from fettle_trainer.text.answers import AnswerFinder
from fettle_trainer.text.template import chat_template
from fettle_trainer.text.tokens import Rendered, RowTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

    from fettle_trainer.config.dataset import RowFormat
    from fettle_trainer.data.examples import Example, Turn
    from fettle_trainer.text.tokens import EncodedRow

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


class Encoder:
    """Renders and tokenises the rows of one format with one tokenizer."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        row_format: RowFormat,
        train_on: TrainOn = "auto",
    ) -> None:
        self.template = chat_template(tokenizer) if row_format != "text" else None
        self._format = row_format
        self._train_on = _checked(train_on, row_format)
        self._row_tokens = RowTokenizer(tokenizer)
        if self.template is None and row_format in _CONVERSATIONS:
            msg = "The model has no chat template, which conversations need. Use a chat model, or prompts and completions."
            raise WrongInputError("TemplateMissing", msg, "model.path")
        if self.template is None and tokenizer.eos_token_id is None:
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
        return self._row_tokens.rows(rendered)

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


def _control_tokens(tokenizer: PreTrainedTokenizerBase) -> frozenset[str]:
    added = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    return frozenset(added | set(tokenizer.all_special_tokens))
