"""Which rows share a sequence: best fit, longest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def best_fit(lengths: Sequence[int] | np.ndarray, capacity: int) -> list[list[int]]:
    """Return the row numbers of each pack; a row goes where the least room would remain.

    The packs that have a certain room left are kept in a stack per amount of room, and one bit per amount says
    whether there are any: the tightest fit is then the lowest bit at or above the row's length.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    if len(sizes) and int(sizes.max()) > capacity:
        msg = f"a row of {int(sizes.max())} tokens does not fit into {capacity}"
        raise ValueError(msg)
    packs: list[list[int]] = []
    with_room: dict[int, list[int]] = {}
    rooms = 0
    order = np.argsort(-sizes, kind="stable")
    for row, size in zip(order.tolist(), sizes[order].tolist(), strict=True):
        fitting = rooms >> size
        if fitting:
            room = size + (fitting & -fitting).bit_length() - 1
            stack = with_room[room]
            pack = stack.pop()
            if not stack:
                rooms &= ~(1 << room)
            packs[pack].append(row)
        else:
            room, pack = capacity, len(packs)
            packs.append([row])
        left = room - size
        if left:
            with_room.setdefault(left, []).append(pack)
            rooms |= 1 << left
    return packs
