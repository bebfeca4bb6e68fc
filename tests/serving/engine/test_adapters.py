"""Adapters that come and go while others are served, and those that are refused with the way out."""

from __future__ import annotations

import gc
import shutil
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from fettle_server.engine.engine import Engine
from fettle_server.engine.stacked_lora import StackedLora
from fettle_server.engine.types import AdapterSpec, AdapterState, RevisionNotReadyError, UnknownRevisionError
from fettle_trainer.adapter.model_folder import folder_digest
from server_engine import greedy, running, say, serve, until
from server_releases import Release, release, sealed

PROMPT = list(range(30, 42))
Releases = Callable[[str], Any]


def states(engine: Engine) -> dict[str, str]:
    return {state.revision: state.state for state in engine.adapters()}


def copy(found: Release, root: Path, name: str) -> Release:
    shutil.copytree(found.folder, root / name)
    return Release(root / name, found.digest)


def edited_config(found: Release, root: Path, name: str, old: str, new: str) -> Release:
    folder = copy(found, root, name).folder
    config = folder / "adapter_config.json"
    assert old in config.read_text()
    config.write_text(config.read_text().replace(old, new))
    return sealed(folder)


async def test_adapters_come_and_go_while_others_answer(releases: Releases) -> None:
    found = releases("qwen3")
    async with running(found.base, found.root) as engine:
        assert engine.ready
        model = engine._adapters._model._base.model
        before = [name for name, _ in model.named_parameters()]
        await serve(engine, found["plain"].spec("plain-1"))
        expected = await say(engine, "plain-1", PROMPT, greedy(200))
        long = engine.generate("plain-1", PROMPT, greedy(200))
        tokens = list((await anext(long)).tokens)

        # Another one comes, and this one is wanted no more; what it has taken on it finishes.
        first = await engine.apply([found["wide"].spec("wide-1"), found["head"].spec("head-1")])
        assert {state.revision: state.state for state in first}["plain-1"] == "Draining"
        with pytest.raises((RevisionNotReadyError, UnknownRevisionError), match="plain-1"):
            engine.generate("plain-1", PROMPT, greedy())
        async for chunk in long:
            tokens += chunk.tokens
        assert [token.id for token in tokens] == expected.ids
        await until(lambda: engine.ready and "plain-1" not in states(engine))
        assert states(engine) == {"wide-1": "Ready", "head-1": "Ready"}
        with pytest.raises(UnknownRevisionError):
            engine.generate("plain-1", PROMPT, greedy())

        # The same list again changes nothing; an empty one gives all memory back.
        again = await engine.apply([found["wide"].spec("wide-1"), found["head"].spec("head-1")])
        assert {state.state for state in again} == {"Ready"}
        by_peft = weakref.ref(next(value for name, value in model.named_parameters() if "lora_B" in name))
        stacked = weakref.ref(next(iter(engine._adapters._model.bank._stacked._stacks.values())))
        await engine.apply([])
        await until(lambda: not engine.adapters())
        await until(lambda: [name for name, _ in model.named_parameters()] == before)
        gc.collect()
        assert by_peft() is None
        assert stacked() is None
        await serve(engine, found["plain"].spec("plain-2"))
        assert await say(engine, "plain-2", PROMPT, greedy(200)) == expected


async def test_a_step_is_taken_between_any_two_modules_of_an_adapter_that_comes(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fettle_server.engine.step_loop._MOMENT_S", 0)
    found, seen = releases("qwen3"), []
    add = StackedLora.add

    def watched(*given: Any) -> Iterator[None]:
        for part in add(*given):
            seen.append(engine._parts[0].tokens)  # type: ignore[index]
            yield part

    async with running(found.base, found.root) as engine:
        await serve(engine, found["plain"].spec("plain-1"))
        expected = await say(engine, "plain-1", PROMPT, greedy(200))
        monkeypatch.setattr(StackedLora, "add", watched)
        long = engine.generate("plain-1", PROMPT, greedy(200))
        tokens = list((await anext(long)).tokens)
        await engine.apply([found["plain"].spec("plain-1"), found["wide"].spec("wide-1")])
        async for chunk in long:
            tokens += chunk.tokens

        assert [token.id for token in tokens] == expected.ids
        assert len(seen) >= 10
        assert all(earlier < later for earlier, later in pairwise(seen))


async def test_bad_adapters_are_refused_with_the_way_out_and_keep_no_good_one_waiting(
    releases: Releases, tmp_path: Path, tiny: Callable[[str], Path]
) -> None:
    found = releases("llama")
    good = copy(found["plain"], tmp_path, "good")
    broken = copy(good, tmp_path, "broken")
    (broken.folder / "adapter_model.safetensors").write_bytes(b"{}")
    other_base = release(tiny("phi3"), tmp_path, "other-base")
    template = copy(good, tmp_path, "template")
    (template.folder / "chat_template.jinja").write_text("{{ messages }}")
    foreign = sealed(copy(good, tmp_path, "foreign").folder, "sha256:" + "0" * 64)
    unnamed = sealed(copy(other_base, tmp_path, "unnamed").folder)
    quantised = sealed(copy(good, tmp_path, "quantised").folder, folder_digest(found.base), method="qlora")
    biased = edited_config(good, tmp_path, "biased", '"bias": "none"', '"bias": "lora_only"')
    layered = edited_config(
        good, tmp_path, "layered", '"layer_replication": null', '"layer_replication": [[0, 2], [0, 2]]'
    )
    pattern = edited_config(good, tmp_path, "pattern", '"alpha_pattern": {}', '"alpha_pattern": {"(a+)+": 4}')
    infinite = release(found.base, tmp_path, "infinite")
    weights = load_file(infinite.folder / "adapter_model.safetensors")
    save_file(
        {name: torch.full_like(tensor, 3e38) for name, tensor in weights.items()},
        infinite.folder / "adapter_model.safetensors",
    )
    infinite = sealed(infinite.folder, folder_digest(found.base))
    large = release(found.base, tmp_path, "large", r=16)
    wanted = {
        "missing": (AdapterSpec("missing", good.digest, "nowhere"), "DirectoryMissing", "does not exist"),
        "outside": (
            AdapterSpec("outside", good.digest, "../good"),
            "PathInvalid",
            "below the adapters' root",
        ),
        "absolute": (AdapterSpec("absolute", good.digest, str(good.folder)), "PathInvalid", "relative"),
        "other": (AdapterSpec("other", "sha256:" + "1" * 64, "good"), "DigestMismatch", "not sha256:1111"),
        "base": (good.spec("base"), "RevisionTaken", "name of the base model"),
        "broken": (broken.spec("broken"), "DigestMismatch", "Copy it again"),
        "template": (template.spec("template"), "DigestMismatch", "chat_template.jinja"),
        "foreign": (foreign.spec("foreign"), "BaseMismatch", "serve it on its own"),
        "unnamed": (unnamed.spec("unnamed"), "WeightsDoNotFit", "do not fit the base model"),
        "quantised": (quantised.spec("quantised"), "QuantisedBase", "Export it merged"),
        "biased": (biased.spec("biased"), "SettingUnsupported", "Export it merged"),
        "layered": (layered.spec("layered"), "SettingUnsupported", '"layer_replication"'),
        "pattern": (pattern.spec("pattern"), "SettingUnsupported", "only plain names"),
        "infinite": (infinite.spec("infinite"), "NotFinite", "no numbers"),
        "large": (large.spec("large"), "RankTooLarge", "has rank 16; this server takes up to 8"),
    }
    async with running(found.base, tmp_path, max_adapters=len(wanted) + 1, max_lora_rank=8) as engine:
        base = await say(engine, "base", PROMPT, greedy())
        await serve(engine, *(spec for spec, _, _ in wanted.values()), good.spec("good"))
        found_states = {state.revision: state for state in engine.adapters()}
        assert found_states.pop("good").state == "Ready"
        for name, (_, reason, words) in wanted.items():
            state = found_states[name]
            assert (name, state.state, state.reason) == (name, "Refused", reason), state.message
            assert words in state.message, (name, state.message)
            if name != "base":
                with pytest.raises(RevisionNotReadyError, match="Refused"):
                    engine.generate(name, PROMPT, greedy())
        # What came in by half has left nothing in the model.
        assert await say(engine, "base", PROMPT, greedy()) == base
        assert (await say(engine, "good", PROMPT, greedy())).ids != base.ids

        # A copy that is put right is taken at the next request, without a change of the list.
        shutil.copy(good.folder / "adapter_model.safetensors", broken.folder / "adapter_model.safetensors")
        await engine.apply([broken.spec("broken"), good.spec("good")])
        await until(lambda: states(engine) == {"broken": "Ready", "good": "Ready"})


async def test_a_name_never_changes_its_meaning(releases: Releases) -> None:
    found = releases("llama")
    changed = replace(found["wide"].spec("tone"))
    async with running(found.base, found.root) as engine:
        await serve(engine, found["plain"].spec("tone"))
        await engine.apply([changed])
        state = next(state for state in engine.adapters() if state.digest == changed.digest)
        assert isinstance(state, AdapterState)
        assert (state.state, state.reason) == ("Refused", "RevisionTaken")
        await until(lambda: [state.digest for state in engine.adapters()] == [changed.digest])
        await serve(engine, changed)
        assert states(engine) == {"tone": "Ready"}


async def test_no_more_adapters_are_held_than_may_be(releases: Releases) -> None:
    found = releases("llama")
    async with running(found.base, found.root, max_adapters=1) as engine:
        await serve(engine, found["plain"].spec("one"), found["wide"].spec("two"))
        assert states(engine) == {"one": "Ready", "two": "Refused"}
        await engine.apply([found["wide"].spec("two")])
        await until(lambda: "one" not in states(engine))
        await serve(engine, found["wide"].spec("two"))
        await until(lambda: states(engine) == {"two": "Ready"})
