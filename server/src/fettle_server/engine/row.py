"""A request in the batch: its tokens so far, and what they are to its client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fettle_server.engine.answer_text import AnswerText
from fettle_server.engine.sampling import Choice, Picker
from fettle_server.engine.types import Alternative, Chunk, Finish, Token

if TYPE_CHECKING:
    from fettle_server.engine.request import Request


class Row:
    """One slot's occupant."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.tokens = list(request.prompt)
        """The prompt and the answer."""
        self.cached = 0
        """How many of them the cache holds."""
        self.picker = Picker.of(request.sampling)
        self.is_over = False
        self._text = AnswerText(request.voice.text.tokens, request.sampling.stop)
        self._made = 0
        self._held: list[Token] = []

    @property
    def is_answering(self) -> bool:
        """Whether only its newest token is missing in the cache; before, its prompt has to be read."""
        return len(self.tokens) - self.cached == 1 and self._made > 0

    def accept(self, choice: Choice) -> Chunk | None:
        """Take the next token; return what the client gets, which may have to wait for the next one."""
        if choice.token in self.request.voice.text.stop_ids:
            return self._end("stop", self._text.rest())
        self._made += 1
        self.tokens.append(choice.token)
        self._held.append(self._token(choice))
        text, stopped = self._text.push(choice.token)
        if stopped:
            return self._end("stop", text)
        if self._made >= self.request.most_tokens:
            return self._end("length", text + self._text.rest())
        return self._chunk(text, None) if text or not self._text.holds else None

    def begin_again(self) -> None:
        """Forget what the cache held: the row has lost its slot, and reads its tokens anew when it has one again."""
        self.cached = 0

    def _end(self, finish: Finish, text: str) -> Chunk:
        self.is_over = True
        return self._chunk(text, finish)

    def _chunk(self, text: str, finish: Finish | None) -> Chunk:
        tokens, self._held = tuple(self._held), []
        return Chunk(text, tokens, finish)

    def _token(self, choice: Choice) -> Token:
        alternatives = tuple(
            Alternative(token, *self._words(token), log_prob) for token, log_prob in choice.alternatives
        )
        return Token(choice.token, *self._words(choice.token), choice.log_prob, alternatives)

    def _words(self, token: int) -> tuple[str, bytes]:
        utf8 = self.request.voice.text.tokens.bytes_of(token)
        return utf8.decode("utf-8", "replace"), utf8
