"""What the base model reads: conversations in the shop, generated from a seed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final, NamedTuple

from fettle_trainer.base.world import ITEMS, NAMES, PROBLEMS, SHOP, item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Conversation = tuple[str, ...]
"""What is said in turns; the user begins."""


class Wish(NamedTuple):
    """What a customer says about the time that a repair may take."""

    text: str
    urgency: str


WISHES: Final = (
    Wish("", "normal"),
    Wish("I need it today.", "high"),
    Wish("It is urgent.", "high"),
    Wish("Please hurry.", "high"),
    Wish("There is no hurry.", "low"),
    Wish("Take your time.", "low"),
)

_HELP: Final = (
    "I can tell you the price, the colour, the maker and the aisle of our goods, and I take complaints."
)
_SMALL_TALK: Final = (
    (("Hello!", "Hi there!", "Good morning!", "Good evening!"), "Hello! What can I do for you?"),
    (("Who are you?", "What are you?", "What is your name?"), f"I am the assistant of {SHOP}."),
    (("What can you do?", "Can you help me?", "How can you help me?"), _HELP),
    (("Thank you!", "Thanks!", "Thanks a lot!"), "You are welcome!"),
    (("Goodbye!", "Bye!", "See you!"), "Goodbye! Have a nice day."),
)
_QUESTIONS: Final[dict[str, tuple[str, ...]]] = {
    "price": ("What does the {} cost?", "How much is the {}?", "What is the price of the {}?"),
    "colour": ("Which colour is the {}?", "What colour does the {} have?"),
    "maker": ("Who makes the {}?", "Which company makes the {}?"),
    "aisle": ("Where is the {}?", "Where do I find the {}?", "In which aisle is the {}?"),
}
_ANSWERS: Final[dict[str, str]] = {
    "price": "The {0.name} costs {0.price} crowns.",
    "colour": "The {0.name} is {0.colour}.",
    "maker": "The {0.name} is made by {0.maker}.",
    "aisle": "The {0.name} is in aisle {0.aisle}.",
}
_OPENINGS: Final = ("", "", "Hello. ", "Hello, I am {name}. ", "Hi, this is {name}. ", "Excuse me. ")
_COMPLAINTS: Final = (
    "My {item} {problem}.",
    "The {item} I bought {problem}.",
    "I have a {item} that {problem}.",
    "I bought a {item} here and it {problem}.",
    "There is a problem: my new {item} {problem}.",
)
_REGRETS: Final = (
    "I am sorry that your {item} {problem}.",
    "Sorry to hear about your {item}: it {problem}.",
    "If it {problem}, the {item} is not as it should be.",
    "A {item} that {problem}? I am sorry.",
)
_PROMISES: Final[dict[str, str]] = {
    "normal": "We will look at it.",
    "high": "We will look at it at once.",
    "low": "We will look at it when we have time.",
}


def conversations(seed: int, count: int) -> Iterator[Conversation]:
    """Yield so many conversations; the same ones for the same seed."""
    dice = random.Random(seed)  # noqa: S311 - text to read, nothing secret
    kinds: tuple[Callable[[random.Random], Conversation], ...] = (_facts, _complaint, _chat)
    for _ in range(count):
        (kind,) = dice.choices(kinds, weights=(4, 6, 1))
        yield kind(dice)


def complaint_text(dice: random.Random, name: str, problem: str, wish: Wish) -> str:
    """Return what a customer says who has a problem with an item."""
    opening = dice.choice(_OPENINGS).format(name=dice.choice(NAMES))
    complaint = dice.choice(_COMPLAINTS).format(item=name, problem=problem)
    return f"{opening}{complaint} {wish.text}".rstrip()


def _facts(dice: random.Random) -> Conversation:
    turns: list[str] = []
    for name in dice.sample(ITEMS, k=dice.choice((1, 1, 2))):
        about = dice.choice(tuple(_QUESTIONS))
        turns += [dice.choice(_QUESTIONS[about]).format(name), _ANSWERS[about].format(item(name))]
    return tuple(turns)


def _complaint(dice: random.Random) -> Conversation:
    name, problem = dice.choice(ITEMS), dice.choice(PROBLEMS)
    wish = dice.choice(WISHES)
    regret = dice.choice(_REGRETS).format(item=name, problem=problem)
    return complaint_text(dice, name, problem, wish), f"{regret} {_PROMISES[wish.urgency]}"


def _chat(dice: random.Random) -> Conversation:
    questions, answer = dice.choice(_SMALL_TALK)
    return dice.choice(questions), answer
