"""Many requests: who waits, who is refused, who gives way, and who goes away."""

from __future__ import annotations

import asyncio
import itertools
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from fettle_server.engine.engine import Engine
from fettle_server.engine.types import (
    DroppedError,
    GenerationFailedError,
    PromptTooLongError,
    QueueFullError,
    ShuttingDownError,
)
from server_engine import Said, greedy, running, say, until

PROMPT = list(range(30, 42))
Tiny = Callable[[str], Path]


async def held(engine: Engine, count: int, **more: Any) -> list[asyncio.Task[Said]]:
    """Keep rows busy for long."""
    # llama's tiny model does not end these by itself before the context is full.
    tasks = [
        asyncio.create_task(say(engine, "base", [*PROMPT, number], endless(), **more))
        for number in range(count)
    ]
    await until(lambda: engine.load().running >= count)
    return tasks


def endless() -> Any:
    return greedy(400, frequency_penalty=2.0)


async def cancelled(*tasks: asyncio.Task[Said]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_a_full_queue_is_told_with_a_time_to_try_again(tiny: Tiny) -> None:
    async with running(tiny("llama"), max_running=1, max_waiting=2) as engine:
        tasks = await held(engine, 1)
        waiting = [asyncio.create_task(say(engine, "base", PROMPT, greedy(2))) for _ in range(2)]
        await until(lambda: engine.load().waiting == 2)
        with pytest.raises(QueueFullError) as refused:
            engine.generate("base", PROMPT, greedy())
        assert 1 <= refused.value.retry_after_s <= 60
        assert engine.load().waiting_by_revision == {"base": 2}
        await cancelled(*tasks)
        assert [len(said.ids) for said in await asyncio.gather(*waiting)] == [2, 2]


async def test_shadow_work_fills_free_places_and_gives_them_back_to_users(tiny: Tiny) -> None:
    async with running(tiny("llama"), max_running=2, max_waiting=2) as engine:
        shadows = await held(engine, 2, priority="shadow")
        user = await say(engine, "base", PROMPT, greedy(3))
        assert len(user.ids) == 3
        with pytest.raises(DroppedError):
            await shadows[1]
        assert not shadows[0].done()

        # With users in all places and in the queue, no shadow is taken on, and one that waits goes first.
        users = [asyncio.create_task(say(engine, "base", PROMPT, endless())) for _ in range(2)]
        with pytest.raises(DroppedError):
            await shadows[0]
        await until(lambda: engine.load().running == 2)
        waiting_shadow = engine.generate("base", PROMPT, greedy(), priority="shadow")
        waiting = [engine.generate("base", PROMPT, greedy(1)) for _ in range(2)]
        with pytest.raises(DroppedError):
            await anext(waiting_shadow)
        with pytest.raises(DroppedError):
            engine.generate("base", PROMPT, greedy(), priority="shadow")
        await cancelled(*users)
        assert all([await anext(answer) for answer in waiting])


@pytest.mark.parametrize("way", ["cancel", "close", "let go"])
async def test_whoever_goes_away_frees_a_place(way: str, tiny: Tiny) -> None:
    async with running(tiny("llama"), max_running=1) as engine:
        answer: Any = engine.generate("base", PROMPT, endless())
        await anext(answer)
        if way == "cancel":
            # The reader may have several chunks to read before it waits for one.
            task = asyncio.ensure_future(_drain(answer))
            await asyncio.sleep(0)
            await cancelled(task)
        elif way == "close":
            await answer.aclose()
        else:
            del answer
        await until(lambda: engine.load().running == 0)
        assert len((await say(engine, "base", PROMPT, greedy(2))).ids) == 2


async def _drain(answer: Any) -> Any:
    async for _ in answer:
        pass


async def test_a_prompt_without_room_for_an_answer_is_refused(tiny: Tiny) -> None:
    async with running(tiny("llama"), max_context=32) as engine:
        with pytest.raises(PromptTooLongError) as refused:
            engine.generate("base", [40] * 32, greedy())
        assert (refused.value.tokens, refused.value.limit) == (32, 31)
        said = await say(engine, "base", [40] * 30, greedy(99))
        assert (len(said.ids), said.finish) == (2, "length")


async def test_stop_strings_and_lengths_end_answers(tiny: Tiny) -> None:
    async with running(tiny("llama")) as engine:
        whole = await say(engine, "base", PROMPT, greedy(40))
        assert whole.finish == "length"
        text = whole.text.rstrip("\ufffd")
        middle = text[len(text) // 2 : len(text) // 2 + 2]
        cut = await say(engine, "base", PROMPT, greedy(40, stop=(middle,)))
        assert (cut.text, cut.finish) == (text[: text.index(middle)], "stop")
        assert whole.ids[: len(cut.ids)] == cut.ids


async def test_a_drain_finishes_what_runs_and_then_cuts(tiny: Tiny) -> None:
    async with running(tiny("llama"), max_running=2) as engine:
        short = asyncio.create_task(say(engine, "base", PROMPT, greedy(20)))
        await until(lambda: engine.load().running == 1)
        stopping = asyncio.create_task(engine.stop(60))
        await until(lambda: not engine.ready)
        with pytest.raises(ShuttingDownError):
            engine.generate("base", PROMPT, greedy())
        await stopping
        assert len((await short).ids) == 20
    async with running(tiny("llama"), max_running=1) as engine:
        tasks = await held(engine, 1)
        tasks.append(asyncio.create_task(say(engine, "base", PROMPT, greedy())))
        await until(lambda: engine.load().waiting == 1)
        await engine.stop(0)
        for task in tasks:
            with pytest.raises(ShuttingDownError):
                await task


async def test_a_drain_ends_when_the_last_client_goes_away(tiny: Tiny) -> None:
    stands, go_on, looks = threading.Event(), threading.Event(), itertools.count()
    async with running(tiny("llama")) as engine:
        steps = engine._parts[0]  # type: ignore[index]
        (last,) = await held(engine, 1)

        def stand_still() -> None:
            # From the second look on, the loop knows that it is to end, and nobody will tell it again.
            if steps._end is not None and next(looks) == 1:
                stands.set()
                go_on.wait(10)

        steps.between_steps = stand_still
        stopping = asyncio.create_task(engine.stop(60))
        await until(stands.is_set)
        await cancelled(last)
        go_on.set()

        await asyncio.wait_for(stopping, 20)


async def test_a_failing_row_fails_alone(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    out_of_memory, no_numbers = 77, 88
    async with running(tiny("llama")) as engine:
        expected = await say(engine, "base", PROMPT, greedy(30))
        model = engine._adapters._model._base.model
        forward = model.forward

        def faulty(input_ids: torch.Tensor, **more: Any) -> Any:
            if (input_ids == out_of_memory).any():
                raise torch.OutOfMemoryError
            found = forward(input_ids=input_ids, **more)
            found.logits[(input_ids == no_numbers).any(-1)] = math.nan
            return found

        monkeypatch.setattr(model, "forward", faulty)
        good = [asyncio.create_task(say(engine, "base", PROMPT, greedy(30))) for _ in range(3)]
        bad = [
            asyncio.create_task(say(engine, "base", [*PROMPT, token], greedy(30)))
            for token in (out_of_memory, no_numbers)
        ]
        good.append(asyncio.create_task(say(engine, "base", PROMPT, greedy(30))))
        for task in bad:
            with pytest.raises(GenerationFailedError):
                await task
        assert [await task for task in good] == [expected] * 4
        assert engine.healthy
        assert engine.load().running == 0


async def test_a_dead_loop_is_told_and_leaves_nobody_waiting(tiny: Tiny) -> None:
    engine: Engine
    async with running(tiny("llama")) as engine:
        tasks = await held(engine, 1)

        def fault() -> None:
            raise MemoryError

        engine._parts[0].between_steps = fault  # type: ignore[index]
        with pytest.raises(ShuttingDownError):
            await tasks[0]
        await until(lambda: not engine.healthy)
        assert not engine.ready
        with pytest.raises(ShuttingDownError):
            engine.generate("base", PROMPT, greedy())
