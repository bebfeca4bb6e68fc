"""Where in a rendered conversation the model's own words stand.

A conversation is rendered twice: as it is, and with invisible marks in its assistant turns. If the two differ in
nothing but the marks, the marks tell where each answer begins and ends, however the template rewrites the turns
around them; if they differ, the row is refused, because a guess would train the wrong words. An answer begins where
the template's generation prompt ends and includes the token that ends the turn.
"""

from __future__ import annotations

import json
import re
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fettle_trainer.config.dataset_report import FindingCode
from fettle_trainer.data.examples import refuse
from fettle_trainer.text.messages import tool_definitions

if TYPE_CHECKING:
    from fettle_trainer.data.examples import Example
    from fettle_trainer.text.messages import Message
    from fettle_trainer.text.template import ChatTemplate, Span

# The last private plane of Unicode: no data set uses it, and one that does is refused.
_FIRST_MARK: Final = 0x100000
_MARKS: Final = re.compile("[\U00100000-\U0010fffd]")
_MOST_TURNS: Final = 0x7000
_THOUGHT: Final = re.compile(r"\A\s*<think>.*?(?:</think>|\Z)", re.DOTALL)
_GENERATION: Final = re.compile(r"\{%-?\s*generation\s*-?%\}")


class Answer(NamedTuple):
    """One assistant turn in the rendered text."""

    turn: int
    """Its number among the turns of the row."""
    asked: int
    """Where the model takes over from the prompt."""
    start: int
    """Where its words begin to be trained; later than `asked` only if the template's author marked it so."""
    end: int


class Conversation(NamedTuple):
    """A rendered row."""

    text: str
    answers: tuple[Answer, ...]
    ended: bool
    """Whether the last answer ends with a token that ends the turn; if not, the caller appends one."""


class AnswerFinder:
    """Renders conversations with one template and finds the answers in them."""

    def __init__(self, template: ChatTemplate, control_tokens: frozenset[str]) -> None:
        self._template = template
        self._tracks = _GENERATION.search(template.text) is not None
        alternatives = "|".join(re.escape(token) for token in sorted(control_tokens, key=len, reverse=True))
        self._closing = re.compile(rf"\s*(?:{alternatives})") if alternatives else None
        self._opener, self._lead, self._closer = self._probe()

    def words(self, text: str, answer: Answer) -> str:
        """Return what the model says in an answer, without the token that ends it."""
        said = text[answer.asked : answer.end]
        ends = (
            [match for match in self._closing.finditer(said) if match.end() == len(said)]
            if self._closing
            else []
        )
        return (said[: ends[0].start()] if ends else said).strip()

    def conversation(self, example: Example) -> Conversation:
        """Render a row and find its answers; raise RowError where that cannot be done for certain."""
        tools = tool_definitions(example.tools)
        if tools and not self._template.has_tools:
            message = "The model's chat template cannot show tools to the model. Remove them, or choose a model that has tools."
            refuse(FindingCode.TEMPLATE_REFUSED, "tools", message)
        messages = self._template.messages(example.turns)
        # Folding the system turn makes one message less than there are turns.
        shift = len(example.turns) - len(messages)
        text, tracked = self._written(messages, tools)
        self._check_complete(text, messages)
        own = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
        if self._tracks and len(tracked) == len(own):
            found = [self._tracked(text, turn, span) for turn, span in zip(own, tracked, strict=True)]
        else:
            found = self._marked(text, messages, tools, own)
        found[-1] = self._from_prompt(text, messages, tools, found[-1])
        answers = tuple(answer._replace(turn=answer.turn + shift) for answer in found)
        return Conversation(text, answers, self._ends(text, found[-1].end))

    def _written(self, messages: list[Message], tools: list[dict[str, Any]] | None) -> tuple[str, list[Span]]:
        if self._tracks:
            return self._template.write_tracked(messages, tools)
        return self._template.write(messages, tools), []

    def _marked(
        self, text: str, messages: list[Message], tools: list[dict[str, Any]] | None, own: list[int]
    ) -> list[Answer]:
        if len(messages) > _MOST_TURNS or _MARKS.search(text):
            message = (
                "The row holds characters of Unicode's last private plane (U+100000 and above). Remove them."
            )
            refuse(FindingCode.TEMPLATE_REFUSED, "", message)
        with_marks = [_with_marks(message, number) for number, message in enumerate(messages)]
        plain, places = _without_marks(self._template.write(with_marks, tools))
        if plain != text:
            refuse(
                FindingCode.TEMPLATE_REFUSED,
                "",
                "The model's chat template rewrites an answer in a way that hides where it stands, so it cannot be trained alone.",
            )
        found: list[Answer] = []
        behind = 0
        for number in own:
            found.append(self._answer(text, number, behind, places, messages[number]))
            behind = found[-1].end
        return found

    def _tracked(self, text: str, number: int, span: Span) -> Answer:
        start, end = span
        return Answer(number, start, start, end if self._ends(text, end) else self._closed(text, end))

    def _answer(
        self, text: str, number: int, behind: int, places: dict[int, int], message: Message
    ) -> Answer:
        first, last = places.get(_first_mark(number)), places.get(_last_mark(number))
        if last is None:
            what = "tool calls" if message.get("tool_calls") else "text"
            refuse(
                FindingCode.TEMPLATE_REFUSED,
                "",
                f"The model's chat template leaves out the {what} of an assistant turn.",
            )
        if first is None and self._opener and self._opener in message["content"]:
            refuse(
                FindingCode.TEMPLATE_REFUSED, "", "An answer holds the text that begins an answer. Remove it."
            )
        start = self._start(text, behind, last if first is None else first)
        if not message.get("tool_calls"):
            return Answer(number, start, start, self._closed(text, last))
        # Behind the content stand the calls, as data of the row; the turn ends with the template's closing token.
        end = text.find(self._closer, last) if self._closer else -1
        if end < 0:
            refuse(
                FindingCode.TEMPLATE_REFUSED,
                "",
                "The model's chat template does not end a turn that calls a tool.",
            )
        return Answer(number, start, start, end + len(self._closer))

    def _start(self, text: str, behind: int, first: int) -> int:
        """Return where the model takes over: behind the generation prompt."""
        if not self._opener:
            return first - len(self._lead) if text.endswith(self._lead, behind, first) else first
        at = text.rfind(self._opener, behind, first)
        if at < 0:
            message = "The model's chat template writes an answer that does not begin as its generation prompt ends."
            refuse(FindingCode.TEMPLATE_REFUSED, "", message)
        return at + len(self._opener)

    def _closed(self, text: str, end: int) -> int:
        """Include the control token that ends the turn, if it follows."""
        closing = self._closing.match(text, end) if self._closing else None
        return closing.end() if closing else end

    def _ends(self, text: str, end: int) -> bool:
        """Say whether a control token stands directly before `end`."""
        if self._closing is None:
            return False
        return any(match.end() == end for match in self._closing.finditer(text, max(0, end - 64), end))

    def _from_prompt(
        self, text: str, messages: list[Message], tools: list[dict[str, Any]] | None, last: Answer
    ) -> Answer:
        """Let the last answer follow the very prompt that it is generated from."""
        prompt = self._template.write(messages[: last.turn], tools, ask=True)
        taken_over = len(prompt)
        if (
            not text.startswith(prompt)
            or taken_over >= last.end
            or (self._tracks and taken_over > last.start)
        ):
            message = "The model's chat template prompts for the last answer with another text than it writes before it."
            refuse(FindingCode.TEMPLATE_REFUSED, "", message)
        return last._replace(asked=taken_over, start=last.start if self._tracks else taken_over)

    def _check_complete(self, text: str, messages: list[Message]) -> None:
        for number, message in enumerate(messages):
            words = message["content"].strip()
            # An answer is checked by its marks. A tool's answer may be written as JSON text.
            if message["role"] != "assistant" and words not in text and _as_json(words) not in text:
                refuse(
                    FindingCode.TEMPLATE_REFUSED,
                    "",
                    f"The model's chat template leaves out the {message['role']}'s turn ({number + 1} of {len(messages)}).",
                )

    def _probe(self) -> tuple[str, str, str]:
        """Learn from small conversations what begins an answer and what ends it."""
        asked = {"role": "user", "content": "a"}
        mark = chr(_FIRST_MARK)
        answered = {"role": "assistant", "content": mark}
        alone, prompt = self._template.write([asked]), self._template.write([asked], ask=True)
        before, _, after = self._template.write([asked, answered, asked]).partition(mark)
        shared = _common_beginning(before, prompt)
        opener = shared[len(_common_beginning(alone, prompt)) :]
        closing = self._closing.match(after) if self._closing else None
        return opener, before[len(shared) :], closing.group() if closing else ""


def without_thought(answer: str) -> str:
    """Return an answer without the thought that a reasoning model puts before it, an unfinished one included."""
    return _THOUGHT.sub("", answer).strip()


def _first_mark(turn: int) -> int:
    return _FIRST_MARK + 2 * turn


def _last_mark(turn: int) -> int:
    return _FIRST_MARK + 2 * turn + 1


def _with_marks(message: Message, turn: int) -> Message:
    """Mark an assistant's words inside of their outer white space, which templates strip."""
    if message["role"] != "assistant":
        return message
    first, last = chr(_first_mark(turn)), chr(_last_mark(turn))
    words = message["content"].strip()
    calls = message.get("tool_calls")
    if not calls:
        return message | {"content": message["content"].replace(words, f"{first}{words}{last}", 1)}
    *others, call = calls
    function = call["function"] | {"name": last + call["function"]["name"]}
    marked = message | {"tool_calls": [*others, call | {"function": function}]}
    if words:
        marked["content"] = message["content"].replace(words, first + words, 1)
    return marked


def _without_marks(text: str) -> tuple[str, dict[int, int]]:
    """Take the marks out and return where they stood in what remains; a mark that stands twice is no place."""
    places: dict[int, int] = {}
    twice: set[int] = set()
    for count, match in enumerate(_MARKS.finditer(text)):
        mark = ord(match.group())
        if mark in places:
            twice.add(mark)
        places[mark] = match.start() - count
    return _MARKS.sub("", text), {mark: place for mark, place in places.items() if mark not in twice}


def _common_beginning(one: str, other: str) -> str:
    same = takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False))
    return "".join(character for character, _ in same)


def _as_json(words: str) -> str:
    return json.dumps(words, ensure_ascii=False)[1:-1]
