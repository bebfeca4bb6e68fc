"""What is served is what was trained: the answers that the trainer recorded, token by token, from what it released."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fettle_server.engine.engine import Engine
from fettle_server.engine.types import AdapterSpec, BaseRefusedError
from fettle_trainer.config.adapter import Method
from fettle_trainer.export.flow import finish, stage
from finished_runs import FinishedRun, adapted, finished_run, run_config
from server_engine import Said, greedy, running, say, serve

Tiny = Callable[[str], Path]


def exported(
    base: Path, folder: Path, method: Method = "lora", **changes: Any
) -> tuple[FinishedRun, list[Any]]:
    """Export a run as the trainer does; return it with what it released."""
    config = run_config(base, folder, method=method, **changes)
    run = finished_run(base, folder, adapted(base, method), config)
    return run, list(finish(stage(run.model, run.job), run.job, run.references, None).exported)


async def answers(engine: Engine, revision: str, run: FinishedRun) -> list[Said]:
    asked = [(reference.prompt, len(reference.tokens)) for reference in run.references.answers]
    return await asyncio.gather(
        *(say(engine, revision, prompt, greedy(length, logprobs=0)) for prompt, length in asked)
    )


def check(
    run: FinishedRun, engine: Engine, revision: str, found: list[Said], tolerance: float = 1e-3
) -> None:
    stops = engine.text_of(revision).stop_ids
    assert any(said.ids for said in found)
    for reference, said in zip(run.references.answers, found, strict=True):
        # The trainer's record goes on behind a token that ends an answer; a server does not.
        end = next((at for at, token in enumerate(reference.tokens) if token in stops), len(reference.tokens))
        assert said.ids == list(reference.tokens[:end])
        log_probs = [token.logprob for token in said.tokens]
        assert log_probs == pytest.approx(list(reference.log_probs[:end]), abs=tolerance)


@pytest.mark.parametrize("method", ["lora", "dora"])
async def test_an_adapter_answers_as_at_the_end_of_its_training(
    method: Method, tiny: Tiny, tmp_path: Path
) -> None:
    run, [adapter] = exported(tiny("gemma3"), tmp_path, method)
    async with running(tiny("gemma3"), adapter.folder.parent) as engine:
        await serve(engine, AdapterSpec("tone", adapter.digest, adapter.folder.name))
        text = engine.text_of("tone")
        assert text.template_digest == adapter.manifest.template_hash == run.prepared.template_digest
        found, base = await asyncio.gather(answers(engine, "tone", run), answers(engine, "base", run))
        check(run, engine, "tone", found)
        assert [said.ids for said in base] != [said.ids for said in found]


async def test_a_merged_model_is_served_as_a_base_of_its_own(tiny: Tiny, tmp_path: Path) -> None:
    output = {"directory": str(tmp_path / "out"), "adapterName": "tone", "exports": ["adapter", "merged"]}
    run, [adapter, merged] = exported(tiny("llama"), tmp_path, output=output)
    async with running(merged.folder, adapter.folder.parent, base_revision="tone-merged") as engine:
        check(run, engine, "tone-merged", await answers(engine, "tone-merged", run), tolerance=5e-3)
        # The adapter belongs to the base that it was trained on, not to the model that it was merged into.
        await serve(engine, AdapterSpec("twice", adapter.digest, adapter.folder.name))
        assert [state.reason for state in engine.adapters()] == ["BaseMismatch"]
    damaged = merged.folder / "config.json"
    damaged.write_text(damaged.read_text() + " ")
    with pytest.raises(BaseRefusedError, match=r"not what its manifest says: config\.json"):
        async with running(merged.folder):
            pass
    with pytest.raises(BaseRefusedError, match="holds an adapter, not a whole model"):
        async with running(adapter.folder):
            pass
