"""Has somebody changed what we wrote? Compares an intent with the live object, so that a pass can stay silent."""

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

__all__ = ["holds"]

_QUANTITY = re.compile(r"^([0-9]+(?:\.[0-9]+)?)(m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$")
_FACTORS: dict[str | None, Decimal] = {
    None: Decimal(1),
    "m": Decimal("0.001"),
    **{unit: Decimal(1000) ** power for power, unit in enumerate(["k", "M", "G", "T", "P", "E"], start=1)},
    **{
        unit: Decimal(1024) ** power
        for power, unit in enumerate(["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"], start=1)
    },
}


def holds(intent: Any, live: Any) -> bool:
    """Tell whether everything we want is there; what the server or others added beside it does not matter.

    Lists must have our items in our order and no others: a container that somebody added is drift. The
    server rewrites quantities ("1000m" is stored as "1"), so these compare by value.
    """
    if live is None:
        # The server leaves out empty values, such as an empty string or `false`.
        return not intent
    if isinstance(intent, Mapping):
        return isinstance(live, Mapping) and all(holds(value, live.get(key)) for key, value in intent.items())
    if isinstance(intent, Sequence) and not isinstance(intent, str):
        return (
            isinstance(live, Sequence)
            and len(intent) == len(live)
            and all(holds(ours, theirs) for ours, theirs in zip(intent, live, strict=True))
        )
    return bool(intent == live) or _same_quantity(intent, live)


def _same_quantity(intent: Any, live: Any) -> bool:
    ours, theirs = _quantity(intent), _quantity(live)
    return ours is not None and ours == theirs


def _quantity(value: Any) -> Decimal | None:
    match = _QUANTITY.match(value) if isinstance(value, str) else None
    return Decimal(match[1]) * _FACTORS[match[2]] if match else None
