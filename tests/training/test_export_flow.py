"""From a trained model to a release: every method, proven, verified, with its history; and what fails the proof."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from fettle_trainer.adapter.verify import verify_adapter
from fettle_trainer.config.adapter import Method
from fettle_trainer.config.manifest import Manifest
from fettle_trainer.errors import IncompleteError, StoppedError, WrongInputError
from fettle_trainer.export import flow
from fettle_trainer.export.base_digest import model_digest, require_base, require_same_base
from fettle_trainer.export.flow import check_exports, finish, stage
from fettle_trainer.export.loading import load_merged
from fettle_trainer.export.proof import prove
from fettle_trainer.export.references import Reference, References, judge_answer
from finished_runs import FinishedRun, adapted, finished_run, moved, run_config

Tiny = Callable[[str], Path]


def run_of(base: Path, folder: Path, method: Method = "lora", **changes: Any) -> FinishedRun:
    exports = changes.pop("exports", [])
    output = {"directory": str(folder / "out"), "adapterName": "tone", "exports": exports}
    config = run_config(base, folder, method=method, output=output, **changes)
    return finished_run(base, folder, adapted(base, method), config)


def released(run: FinishedRun) -> list[Path]:
    return sorted(path for path in run.job.releases.iterdir() if not path.name.startswith("."))


def plain_logits(artefact: Path, base: Path) -> torch.Tensor:
    """What a stranger gets with PEFT and transformers alone."""
    if (artefact / "adapter_config.json").exists():
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), artefact)
    else:
        model = AutoModelForCausalLM.from_pretrained(artefact)
    with torch.no_grad():
        logits: torch.Tensor = model.eval()(input_ids=torch.arange(5, 25)[None]).logits
    return logits


def live_logits(run: FinishedRun) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = run.model.eval()(input_ids=torch.arange(5, 25)[None]).logits
    return logits


@pytest.mark.parametrize("method", ["lora", "dora", "full"])
def test_what_is_released_is_what_was_trained(tiny: Tiny, tmp_path: Path, method: Method) -> None:
    run = run_of(tiny("llama"), tmp_path, method)
    expected = live_logits(run)
    finished = finish(stage(run.model, run.job), run.job, run.references, run.data)
    [artefact] = finished.exported
    assert released(run) == [artefact.folder]
    assert artefact.folder.name == artefact.digest.replace(":", "-")
    assert verify_adapter(artefact.folder).digest == artefact.digest
    torch.testing.assert_close(plain_logits(artefact.folder, tiny("llama")), expected)
    tokenizer = AutoTokenizer.from_pretrained(artefact.folder)
    assert tokenizer.get_chat_template() == run.tokenizer.get_chat_template()


def test_the_manifest_tells_the_whole_history(tiny: Tiny, tmp_path: Path) -> None:
    run = run_of(tiny("qwen3"), tmp_path)
    job = replace(run.job, lineage=replace(run.job.lineage, parent="sha256:" + "1" * 64))
    finished = finish(stage(run.model, job), job, run.references, run.data)
    manifest = Manifest.model_validate(
        {
            key: value
            for key, value in json.loads((finished.exported[0].folder / "manifest.json").read_text()).items()
            if key != "seal"
        }
    )
    assert manifest.base_model.digest == model_digest(tiny("qwen3"), tmp_path / "other-cache.json")
    assert manifest.dataset_digest == run.prepared.dataset_digest
    assert manifest.template_hash == run.prepared.template_digest
    assert manifest.parent == "sha256:" + "1" * 64
    assert manifest.settings["method"] == "lora"
    assert manifest.settings["seed"] == 42
    assert manifest.versions["torch"] == torch.__version__.partition("+")[0]
    assert {"loss", "exact-match", "base-loss", "base-exact-match"} <= manifest.metrics.keys()
    assert (manifest.rank, manifest.alpha) == (4, 8)
    card = (finished.exported[0].folder / "README.md").read_text()
    assert "A LoRA adapter of rank 4" in card
    assert "| exact-match |" in card


def test_a_qlora_adapter_is_merged_into_the_weights_that_it_was_trained_on(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny("llama"), tmp_path, "qlora", exports=["adapter", "merged"])
    expected = live_logits(run)
    adapter, merged = finish(stage(run.model, run.job), run.job, run.references, None).exported
    assert merged.manifest.merge is not None
    assert merged.manifest.merge.base == "dequantised"
    assert merged.manifest.merge.adapter == adapter.digest
    assert merged.manifest.merge.largest_difference < 1e-3
    assert verify_adapter(merged.folder).artefact == "model"
    torch.testing.assert_close(plain_logits(merged.folder, tiny("llama")), expected, atol=1e-4, rtol=1e-4)

    # Merged into the original weights, it is another model; the comparison notices and nothing more is released.
    monkeypatch.setattr(
        flow, "load_merged", lambda adapter, base, _, precision: load_merged(adapter, base, "lora", precision)
    )
    again = run_of(tiny("llama"), tmp_path / "again", "qlora", exports=["adapter", "merged"])
    with pytest.raises(IncompleteError, match="does not answer as the trained model"):
        finish(stage(again.model, again.job), again.job, again.references, None)
    assert released(again) == []


@pytest.mark.parametrize(("init", "rslora"), [("pissa", False), ("olora", False), ("pissa", True)])
def test_adapters_that_changed_the_base_are_converted_for_the_base_as_it_is(
    tiny: Tiny, tmp_path: Path, init: str, rslora: bool
) -> None:
    base = tiny("llama")
    config = run_config(base, tmp_path, lora={"initWeights": init, "rank": 4, "rslora": rslora})
    model = adapted(base, "lora", init_lora_weights=init, use_rslora=rslora, moving=False)
    model.save_pretrained(tmp_path / "initial")
    run = finished_run(base, tmp_path, moved(model), config)
    job = replace(run.job, initial_adapter=tmp_path / "initial")
    expected = live_logits(run)
    [artefact] = finish(stage(run.model, job), job, run.references, None).exported
    assert artefact.manifest.rank == 8
    torch.testing.assert_close(plain_logits(artefact.folder, base), expected, atol=1e-4, rtol=1e-4)
    assert f"Trained from {init} weights" in (artefact.folder / "README.md").read_text()


def _flip_a_number(staged: Path) -> None:
    path = staged / "adapter_model.safetensors"
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if "lora_B" in name)
    tensors[name] = -tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})


def _change_alpha(staged: Path) -> None:
    path = staged / "adapter_config.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "lora_alpha": document["lora_alpha"] * 1.25}))


def _forget_a_module(staged: Path) -> None:
    path = staged / "adapter_model.safetensors"
    tensors = {
        name: tensor for name, tensor in load_file(path).items() if ".layers.1.mlp.down_proj" not in name
    }
    save_file(tensors, path, metadata={"format": "pt"})


@pytest.mark.parametrize("harm", [_flip_a_number, _change_alpha, _forget_a_module])
def test_an_export_that_is_not_the_trained_model_fails_the_run(
    tiny: Tiny, tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    run = run_of(tiny("llama"), tmp_path)
    staged = stage(run.model, run.job)
    harm(staged)
    with pytest.raises(IncompleteError) as caught:
        finish(staged, run.job, run.references, run.data)
    assert caught.value.code == "ExportNotProven"
    assert "on held-out prompt 1, token " in caught.value.message
    assert released(run) == []


@pytest.mark.parametrize("drift", [0.01, -0.01, math.nan])
def test_a_drift_that_changes_no_token_fails_the_proof_too(tiny: Tiny, tmp_path: Path, drift: float) -> None:
    run = run_of(tiny("llama"), tmp_path)
    assert prove(run.model, run.references, 1e-3, run.tokenizer) == 0
    *others, last = run.references.answers
    moved_last = replace(last, log_probs=(*last.log_probs[:-1], last.log_probs[-1] + drift))
    with pytest.raises(IncompleteError, match=f"prompt {len(others) + 1}, token {len(last.tokens)} "):
        prove(run.model, References((*others, moved_last)), 1e-3, run.tokenizer)


def test_only_where_the_trained_model_hesitated_another_token_may_lead(tiny: Tiny, tmp_path: Path) -> None:
    run = run_of(tiny("llama"), tmp_path)
    prompt = run.references.answers[0].prompt
    runner_up = int(plain_logits_of(run, prompt)[-1].topk(2).indices[1])
    judged = judge_answer(run.model, prompt, [runner_up])
    assert judged.margins[0] < 0
    for margin, passes in ((0.0, True), (0.5, False)):
        answer = Reference(prompt, (runner_up,), judged.log_probs, (margin,))
        if passes:
            prove(run.model, References((answer,)), 1e-3, run.tokenizer)
        else:
            with pytest.raises(IncompleteError, match="it would say"):
                prove(run.model, References((answer,)), 1e-3, run.tokenizer)


def plain_logits_of(run: FinishedRun, prompt: tuple[int, ...]) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = run.model.eval()(input_ids=torch.tensor([prompt])).logits[0]
    return logits


def test_a_base_that_changed_since_the_training_fails_the_run(tiny: Tiny, tmp_path: Path) -> None:
    run = run_of(tiny("llama"), tmp_path)
    moved(AutoModelForCausalLM.from_pretrained(tiny("llama"))).save_pretrained(tmp_path / "moved")
    job = replace(run.job, base=tmp_path / "moved")
    with pytest.raises(IncompleteError, match="does not answer as the trained model"):
        finish(stage(run.model, run.job), job, run.references, None)


def test_the_same_weights_make_the_same_digest_in_every_process(tiny: Tiny, tmp_path: Path) -> None:
    # A set's order differs from process to process.
    run = run_of(tiny("llama"), tmp_path)
    document = json.loads((stage(run.model, run.job) / "adapter_config.json").read_text())
    assert len(document["target_modules"]) > 5
    assert document["target_modules"] == sorted(document["target_modules"])


def test_references_survive_their_file(tiny: Tiny, tmp_path: Path) -> None:
    run = run_of(tiny("llama"), tmp_path)
    run.references.write(tmp_path / "references.json")
    assert References.read(tmp_path / "references.json") == run.references


def test_a_missed_gate_keeps_the_artefact_and_releases_nothing(tiny: Tiny, tmp_path: Path) -> None:
    evaluation = {
        "samples": 2,
        "metrics": ["loss", "exact-match"],
        "gates": [{"metric": "loss", "max": 100.0}, {"metric": "exact-match", "min": 0.5}],
    }
    run = run_of(tiny("llama"), tmp_path, evaluation=evaluation)
    finished = finish(stage(run.model, run.job), run.job, run.references, run.data)
    assert finished.missed == "The result misses exact-match at least 0.5 (it is 0)."
    assert released(run) == []
    [kept] = finished.exported
    assert kept.folder.parent == tmp_path / "work" / "rejected"
    assert verify_adapter(kept.folder).digest == kept.digest
    report = json.loads((tmp_path / "work" / "evaluation.json").read_text())
    assert [gate["passed"] for gate in report["gates"]] == [True, False]


def test_a_stop_while_answers_are_generated_releases_nothing(tiny: Tiny, tmp_path: Path) -> None:
    run = run_of(tiny("llama"), tmp_path)
    asked = iter(range(1000))

    def check() -> None:
        if next(asked) == 5:
            raise StoppedError("Stopped", "stopped")

    with pytest.raises(StoppedError):
        finish(stage(run.model, run.job), run.job, run.references, run.data, check)
    assert next(asked) == 6
    assert released(run) == []


def test_an_export_that_was_killed_is_made_anew_and_one_that_is_there_stays(
    tiny: Tiny, tmp_path: Path
) -> None:
    run = run_of(tiny("llama"), tmp_path)
    (stage(run.model, run.job) / "torn").write_text("by a kill")
    (run.job.releases / ".incoming-model").mkdir()
    first = finish(stage(run.model, run.job), run.job, run.references, None).exported[0]
    before = (first.folder / "manifest.json").stat().st_ino
    again = finish(stage(run.model, run.job), run.job, run.references, None).exported[0]
    assert again.digest == first.digest
    assert (again.folder / "manifest.json").stat().st_ino == before
    assert [path.name for path in run.job.releases.iterdir()] == [first.folder.name]


@pytest.mark.parametrize(
    ("method", "exports"), [("lora", ["onnx"]), ("lora", ["adapter", "gguf"]), ("full", ["adapter"])]
)
def test_exports_that_cannot_be_made_are_refused_with_a_sentence(
    tmp_path: Path, method: str, exports: list[str]
) -> None:
    output = {"directory": "/o", "adapterName": "a", "exports": exports}
    with pytest.raises(WrongInputError, match=r"output\.exports: "):
        check_exports(run_config(tmp_path, tmp_path, method=method, output=output))


def test_a_base_is_hashed_once_and_again_when_it_changes(tiny: Tiny, tmp_path: Path) -> None:
    cache = tmp_path / "cache.json"
    first = model_digest(tiny("llama"), cache)
    remembered = json.loads(cache.read_text())
    cache.write_text(json.dumps({**remembered, "digest": "sha256:remembered"}))
    assert model_digest(tiny("llama"), cache) == "sha256:remembered"
    assert model_digest(tiny("qwen2"), cache) != first
    cache.write_text("torn{")
    assert model_digest(tiny("llama"), cache) == first


def test_another_base_than_the_named_one_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    run = run_of(tiny("llama"), tmp_path)
    exported = finish(stage(run.model, run.job), run.job, run.references, None).exported[0]
    earlier = verify_adapter(exported.folder)
    require_same_base(earlier, run.job.lineage.base_digest)
    with pytest.raises(WrongInputError, match="trained on a base with the digest"):
        require_same_base(earlier, "sha256:" + "0" * 64)
    require_base(None, "sha256:" + "0" * 64)
    with pytest.raises(WrongInputError, match=r"model\.digest says sha256:1"):
        require_base("sha256:" + "1" * 64, "sha256:" + "0" * 64)
