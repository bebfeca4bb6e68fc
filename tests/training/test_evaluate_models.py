"""Answers and likelihoods of real models: the same alone and in a batch, for the tuned model and for its base."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, GenerationConfig

from fettle_trainer.config.evaluation_report import EvaluationReport
from fettle_trainer.evaluate.compare import compare, without_adapter
from fettle_trainer.evaluate.greedy import GreedySettings, generate, stop_ids
from fettle_trainer.evaluate.likelihood import likelihood
from fettle_trainer.evaluate.model_scores import evaluate_model
from fettle_trainer.text.tokenizer import load_tokenizer
from fettle_trainer.train.loss import teach_trained_tokens
from finished_runs import adapted, finished_run, run_config
from tiny_models import FAMILIES

Tiny = Callable[[str], Path]
PROMPTS = [list(range(10, 10 + length)) for length in (3, 17, 9, 30, 4)]


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_does_not_depend_on_who_else_is_in_the_batch(tiny: Tiny, family: str) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny(family), dtype=torch.float32)
    teach_trained_tokens(model)  # as a model has it that was just trained
    settings = GreedySettings(stop_ids=(), pad_id=0, max_new_tokens=6)
    alone = [generate(model, [prompt], settings)[0] for prompt in PROMPTS]
    assert generate(model, PROMPTS, settings) == alone
    assert len({tuple(answer) for answer in alone}) > 1


def test_batches_are_bounded_by_rows_and_by_cells(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny("llama"))
    shapes: list[tuple[int, int]] = []
    original = model.generate

    def recorded(**inputs: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(inputs["input_ids"].shape))  # type: ignore[arg-type]
        found: torch.Tensor = original(**inputs)
        return found

    monkeypatch.setattr(model, "generate", recorded)
    generate(model, PROMPTS, GreedySettings((), 0, 2, batch_rows=2, batch_tokens=40))
    assert shapes == [(1, 30), (2, 17), (2, 4)]


def test_an_answer_ends_where_the_turn_ends_and_sampling_settings_are_laid_aside(tiny: Tiny) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny("llama"))
    free = GreedySettings(stop_ids=(), pad_id=0, max_new_tokens=8)
    [whole] = generate(model, [PROMPTS[0]], free)
    own = GenerationConfig(do_sample=True, temperature=5.0, repetition_penalty=3.0, eos_token_id=whole[0])
    model.generation_config = own
    assert generate(model, [PROMPTS[0]], free) == [whole]
    stop = whole[-1]
    ended = GreedySettings(stop_ids=(stop,), pad_id=0, max_new_tokens=8)
    assert generate(model, [PROMPTS[0]], ended) == [whole[: whole.index(stop)]]
    assert model.generation_config is own


def test_answers_stop_at_what_the_folder_and_the_data_end_with(tiny: Tiny) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny("gemma2"))
    tokenizer = load_tokenizer(tiny("gemma2"))
    model.generation_config.eos_token_id = None
    end = tokenizer.convert_tokens_to_ids("<end_of_turn>")
    word = tokenizer.encode("a", add_special_tokens=False)[0]
    assert stop_ids(model, tokenizer, (end, word)) == tuple(sorted({end, tokenizer.eos_token_id}))


def test_the_likelihood_is_that_of_each_row_alone(tiny: Tiny, tmp_path: Path) -> None:
    config = run_config(tiny("qwen3"), tmp_path)
    run = finished_run(tiny("qwen3"), tmp_path, adapted(tiny("qwen3"), "lora"), config)
    rows = run.prepared.validation
    found = likelihood(run.model, rows, range(len(rows)), pad_id=0)
    loss, right, total = 0.0, 0, 0
    for number in range(len(rows)):
        row = rows.row(number)
        with torch.no_grad():
            logits = run.model.eval()(input_ids=torch.tensor(row.input_ids[None], dtype=torch.long)).logits[0]
        for place in (row.labels[1:] >= 0).nonzero()[0]:
            loss -= float(logits[place].log_softmax(-1)[int(row.labels[place + 1])])
            right += int(logits[place].argmax()) == row.labels[place + 1]
            total += 1
    assert (found.tokens, found.token_accuracy) == (total, pytest.approx(right / total))
    assert found.loss == pytest.approx(loss / total, rel=1e-5)


def test_the_base_beside_the_tuned_model_is_the_base_itself(tiny: Tiny, tmp_path: Path) -> None:
    base = tiny("llama")
    run = finished_run(base, tmp_path, adapted(base, "lora"), run_config(base, tmp_path))
    comparison = compare(run.model, lambda: without_adapter(run.model), run.data, ())
    plain = evaluate_model(AutoModelForCausalLM.from_pretrained(base), run.data)
    assert comparison.base is not None
    assert comparison.base.answers == plain.answers
    assert comparison.report.base == pytest.approx(plain.metrics)
    assert comparison.report.tuned != comparison.report.base
    assert comparison.tuned.metrics == evaluate_model(run.model, run.data).metrics  # the adapter is on again
    assert comparison.tuned.metrics["perplexity"] == pytest.approx(math.exp(comparison.tuned.metrics["loss"]))

    comparison.write(tmp_path, run.data)
    report = EvaluationReport.model_validate_json((tmp_path / "evaluation.json").read_text())
    assert report == comparison.report
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [sample["reference"] for sample in samples] == [prompt.reference for prompt in run.data.prompts]
    assert samples[1]["prompt"] == run.tokenizer.decode(run.data.prompts[1].input_ids)
    assert (samples[1]["base"], samples[1]["tuned"]) == (plain.answers[1], comparison.tuned.answers[1])


def test_a_classifier_is_scored_by_its_labels(tiny: Tiny, tmp_path: Path) -> None:
    base = tiny("llama")
    rows = [{"text": f"it is {n}", "label": "even" if n % 2 == 0 else "odd"} for n in range(8)]
    run = finished_run(base, tmp_path, adapted(base, "lora"), run_config(base, tmp_path, rows, evaluation={}))
    assert run.data.labels == ("even", "odd")
    assert {prompt.label for prompt in run.data.prompts} == {"even", "odd"}
    assert {"accuracy", "macro-f1"} <= evaluate_model(run.model, run.data).metrics.keys()


def test_plain_text_is_measured_without_answers(tiny: Tiny, tmp_path: Path) -> None:
    base = tiny("llama")
    rows = [{"text": f"the number {n} follows {n - 1}"} for n in range(8)]
    run = finished_run(base, tmp_path, adapted(base, "lora"), run_config(base, tmp_path, rows))
    assert len(run.references.answers) == 3
    scores = evaluate_model(run.model, run.data)
    assert scores.answers == ()
    assert set(scores.metrics) == {"loss", "perplexity", "token-accuracy"}
