"""Rows of different adapters in one batch: each answers as it does alone, whoever joins and leaves beside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from fettle_server.engine.engine import Engine
from fettle_server.engine.types import Sampling
from server_engine import greedy, running, say, serve, until
from tiny_models import FAMILIES

KINDS = ("plain", "wide", "dora", "head")
LONG = 90
"""Longer than the sliding windows of the tiny models, which are 64."""


def prompts() -> dict[str, list[int]]:
    """One prompt for each revision; lengths differ, and two do not fit into a sliding window."""
    chance = torch.Generator().manual_seed(5)
    lengths = {"base": 3, "plain": 70, "wide": 17, "dora": 5, "head": 100}
    return {
        name: torch.randint(20, 380, (length,), generator=chance).tolist() for name, length in lengths.items()
    }


def alone(base: Any, folder: Any, prompt: list[int], length: int) -> list[int]:
    """What transformers and PEFT answer without this engine, greedily and without an end."""
    model = AutoModelForCausalLM.from_pretrained(base)
    if folder is not None:
        model = PeftModel.from_pretrained(model, folder)
    ids = torch.tensor([prompt])
    model.generation_config.eos_token_id = None
    whole = model.eval().generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=length, do_sample=False
    )
    answer: list[int] = whole[0, len(prompt) :].tolist()
    return answer


def until_stop(answer: list[int], engine: Engine) -> list[int]:
    stops = engine.text_of("base").stop_ids
    end = next((place for place, token in enumerate(answer) if token in stops), len(answer))
    return answer[:end]


@pytest.mark.parametrize("family", FAMILIES)
async def test_each_row_answers_as_it_does_alone(family: str, releases: Callable[[str], Any]) -> None:
    found = releases(family)
    async with running(found.base, found.root, prefill_tokens=48) as engine:
        await serve(engine, *(found[kind].spec(kind) for kind in KINDS))
        revisions = ["base", *KINDS]
        asked = prompts()
        expected = {
            name: until_stop(
                alone(found.base, None if name == "base" else found[name].folder, asked[name], LONG), engine
            )
            for name in revisions
        }
        # Short answers leave in the middle of long ones, and rows that come later join them.
        early = [say(engine, name, asked[name], greedy(5)) for name in revisions]
        full = [asyncio.create_task(say(engine, name, asked[name], greedy(LONG))) for name in revisions]
        late = [say(engine, name, asked[name], greedy(LONG)) for name in reversed(revisions)]
        first = await asyncio.gather(*early)
        second = await asyncio.gather(*late)
        third = await asyncio.gather(*full)
    for name, said in zip(revisions, first, strict=True):
        assert said.ids == expected[name][:5]
    for name, said in zip(reversed(revisions), second, strict=True):
        assert said.ids == expected[name], name
    for name, said in zip(revisions, third, strict=True):
        assert said.ids == expected[name], name
    assert len({tuple(answer) for answer in expected.values()}) == len(revisions)


async def test_an_adapter_in_the_place_of_another_one_answers_as_it_does_alone(
    releases: Callable[[str], Any],
) -> None:
    found, prompt = releases("llama"), prompts()["wide"]
    # Some change fewer layers than what was in their place, some at ranks, scales and gains of their own.
    later = ["head", "last", "end", "patterned", "strong", "rooted", "embedded", "biased"]
    async with running(found.base, found.root) as engine:
        await serve(engine, found["dora"].spec("dora"), found["last"].spec("last"))
        await say(engine, "dora", prompt, greedy(2))
        await serve(engine, found["last"].spec("last"))
        await until(lambda: len(engine.adapters()) == 1)
        # PEFT makes the one called head out of a copy of the layer that the last one goes through.
        await say(engine, "last", prompt, greedy(2))
        await serve(engine, *(found[kind].spec(kind) for kind in later))
        together = await asyncio.gather(*(say(engine, kind, prompt, greedy(40)) for kind in ("base", *later)))
        expected = [until_stop(alone(found.base, found[kind].folder, prompt, 40), engine) for kind in later]
    assert [said.ids for said in together[1:]] == expected
    assert len({tuple(said.ids) for said in together}) == len(together)


async def test_a_seed_gives_the_same_answer_alone_and_in_any_batch(releases: Callable[[str], Any]) -> None:
    found = releases("llama")
    async with running(found.base, found.root) as engine:
        await serve(engine, found["plain"].spec("plain"))
        warm = Sampling(40, temperature=1.2, top_p=0.9, seed=7)
        prompt = prompts()["wide"]
        by_itself = await say(engine, "plain", prompt, warm)
        others = [say(engine, "base", prompt, Sampling(30, seed=seed)) for seed in range(9)]
        beside, *_ = await asyncio.gather(say(engine, "plain", prompt, warm), *others)
        other_seed = await say(engine, "plain", prompt, Sampling(40, temperature=1.2, top_p=0.9, seed=8))
    assert beside == by_itself
    assert other_seed.ids != by_itself.ids


async def test_a_row_that_loses_its_slot_goes_on_where_it_was(releases: Callable[[str], Any]) -> None:
    found = releases("gemma3")
    prompt = prompts()["wide"]
    async with running(found.base, found.root) as engine:
        expected = [await say(engine, "base", [*prompt, number], greedy(60)) for number in range(20, 26)]
    # Room for two rows of that length, and six of them at once: slots are taken away and given back.
    async with running(found.base, found.root, cache_tokens=180, max_context=100) as engine:
        answers = await asyncio.gather(
            *(say(engine, "base", [*prompt, number], greedy(60)) for number in range(20, 26))
        )
    assert answers == expected
