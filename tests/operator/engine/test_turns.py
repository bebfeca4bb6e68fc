"""Whose pass begins next: new objects first, and nobody for ever last."""

import asyncio

from fettle_operator.engine.turns import Turns


async def test_new_objects_go_first_and_every_tenth_slot_is_for_the_others() -> None:
    turns, order = Turns(1), []
    await turns.take(is_new=False)

    async def wait(name: str, *, is_new: bool) -> None:
        await turns.take(is_new=is_new)
        order.append(name)
        turns.give_back()

    known = [asyncio.create_task(wait(f"known-{number}", is_new=False)) for number in range(2)]
    new = [asyncio.create_task(wait(f"new-{number}", is_new=True)) for number in range(11)]
    await asyncio.sleep(0)
    turns.give_back()
    await asyncio.gather(*known, *new)

    first_nine = [f"new-{number}" for number in range(9)]
    assert order == [*first_nine, "known-0", "new-9", "new-10", "known-1"]


async def test_no_more_run_at_a_time_than_may() -> None:
    turns, running, most = Turns(3), 0, 0

    async def work() -> None:
        nonlocal running, most
        await turns.take(is_new=True)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        turns.give_back()

    await asyncio.gather(*(work() for _ in range(20)))

    assert most == 3


async def test_one_who_gives_up_takes_no_slot_along() -> None:
    turns = Turns(1)
    await turns.take(is_new=True)
    gave_up = asyncio.create_task(turns.take(is_new=True))
    got_it = asyncio.create_task(turns.take(is_new=True))
    await asyncio.sleep(0)
    turns.give_back()
    got_it.cancel()
    await asyncio.gather(got_it, return_exceptions=True)
    await gave_up
    turns.give_back()

    async with asyncio.timeout(1):
        await turns.take(is_new=False)
