"""The little world that the base model knows: one hardware shop, its goods and what can be wrong with them."""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

SHOP: Final = "the Harbour Street hardware shop"
_GOODS: Final = """
    lamp kettle drill ladder hammer bucket rope shovel hose heater radio clock
    chair mirror carpet basket bottle toaster mixer battery speaker printer camera pump
"""
_PEOPLE: Final = "Ada Ben Cara Eva Finn Gita Hugo Ida Max Nora Ravi Tom"

ITEMS: Final = tuple(_GOODS.split())
NAMES: Final = tuple(_PEOPLE.split())
PROBLEMS: Final = (
    "is broken",
    "does not start",
    "leaks",
    "makes a loud noise",
    "smells of smoke",
    "is scratched",
    "has a loose part",
    "came without a manual",
    "is the wrong size",
    "arrived too late",
)
_COLOURS: Final = ("red", "green", "blue", "white", "black", "yellow", "grey", "brown")
_MAKERS: Final = ("Norden", "Altmark", "Belgrave", "Costa", "Delta", "Elmwood")


class Item(NamedTuple):
    """What the shop knows about one of its goods."""

    name: str
    colour: str
    maker: str
    price: int
    aisle: int


def item(name: str) -> Item:
    """Return the facts on an item; they follow from its name and never change."""
    digest = hashlib.sha256(name.encode()).digest()
    return Item(
        name,
        colour=_COLOURS[digest[0] % len(_COLOURS)],
        maker=_MAKERS[digest[1] % len(_MAKERS)],
        price=5 + digest[2] % 90,
        aisle=1 + digest[3] % 12,
    )
