"""The knobs of training do what their names say."""

import math
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
import torch
from transformers import EarlyStoppingCallback

from fettle_trainer.config.run import LossConfig
from fettle_trainer.errors import WrongInputError
from fettle_trainer.train import plugins
from fettle_trainer.train.engine import LastStepEvaluation
from fettle_trainer.train.loss import cross_entropy
from fettle_trainer.train.plugins import chosen_loss, class_weight_of
from small_engine import SETTINGS, engine_of, logged

PEAK = SETTINGS.learning_rate


@pytest.mark.parametrize(
    ("schedule", "middle", "end"),
    [
        ("cosine", 0.5 * PEAK, 0.01 * PEAK),
        ("linear", 0.5 * PEAK, 0.06 * PEAK),
        ("constant", PEAK, PEAK),
        ("wsd", PEAK, 0.3 * PEAK),
    ],
)
def test_a_schedule_warms_up_and_ends_as_it_is_called(
    schedule: str, middle: float, end: float, tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, schedule=schedule, warmup_steps=2, total_steps=20)
    engine = engine_of(tiny("llama"), tmp_path, settings)
    engine.train()
    rates = logged(engine, "learning_rate")
    assert rates[0] == 0
    assert max(rates) == pytest.approx(PEAK)
    assert rates[11] == pytest.approx(middle, rel=0.06)
    assert rates[-1] == pytest.approx(end, rel=0.6)


@pytest.mark.parametrize("optimizer", ["adamw", "adafactor"])
def test_every_optimizer_of_a_cpu_learns(optimizer: str, tiny: Callable[[str], Path], tmp_path: Path) -> None:
    engine = engine_of(tiny("llama"), tmp_path, replace(SETTINGS, optimizer=optimizer, total_steps=12))
    engine.train()
    assert logged(engine, "loss")[-1] < logged(engine, "loss")[0] - 0.05


def test_neftune_disturbs_training_and_leaves_validation_alone(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    plain = engine_of(tiny("llama"), tmp_path / "plain", replace(SETTINGS, total_steps=1))
    noisy = engine_of(tiny("llama"), tmp_path / "noisy", replace(SETTINGS, total_steps=1), neftune_alpha=15.0)
    before = plain.evaluate()["eval_loss"]
    assert noisy.evaluate()["eval_loss"] == before
    plain.train()
    noisy.train()
    assert logged(noisy, "loss") != logged(plain, "loss")


def test_weight_decay_shrinks_what_is_trained(tiny: Callable[[str], Path], tmp_path: Path) -> None:
    sizes = []
    for decay in (0.0, 1.0):
        engine = engine_of(
            tiny("llama"), tmp_path / str(decay), replace(SETTINGS, weight_decay=decay, total_steps=20)
        )
        engine.train()
        sizes.append(sum(p.norm().item() for n, p in engine.model.named_parameters() if "lora_A" in n))
    assert sizes[1] < 0.95 * sizes[0]


def test_training_stops_early_when_validation_no_longer_improves_and_keeps_the_best(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, learning_rate=0.5, total_steps=40, eval_every=2)
    callbacks = [EarlyStoppingCallback(early_stopping_patience=2), LastStepEvaluation()]
    engine = engine_of(tiny("llama"), tmp_path, settings, callbacks=callbacks)
    engine.train()
    losses = logged(engine, "eval_loss")
    assert engine.state.global_step < 40
    assert engine.state.best_metric == pytest.approx(min(losses))
    assert engine.durability.store.path(engine.state.best_global_step).is_dir()


def test_the_last_step_is_validated_wherever_the_others_fall(
    tiny: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, total_steps=5, eval_every=3)
    engine = engine_of(tiny("llama"), tmp_path, settings, callbacks=[LastStepEvaluation()])
    engine.train()
    assert [entry["step"] for entry in engine.state.log_history if "eval_loss" in entry] == [3, 5]


LOGITS = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
TARGETS = torch.tensor([0, 2])


def test_label_smoothing_gives_the_other_tokens_their_share() -> None:
    loss = chosen_loss(LossConfig(plugin="label-smoothing", settings={"epsilon": "0.3"}))
    log_probs = LOGITS.log_softmax(-1)
    expected = -(0.7 * log_probs[[0, 1], TARGETS] + 0.3 * log_probs.mean(-1))
    torch.testing.assert_close(loss(LOGITS, TARGETS), expected)


def test_focal_loss_counts_what_is_known_for_less() -> None:
    loss = chosen_loss(LossConfig(plugin="focal", settings={"gamma": "2"}))
    plain = cross_entropy(LOGITS, TARGETS)
    torch.testing.assert_close(loss(LOGITS, TARGETS), (1 - torch.exp(-plain)) ** 2 * plain)


def test_an_installed_package_offers_a_loss_that_trains(
    tiny: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offered = EntryPoint("doubled", "test_engine_options:doubled", plugins.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: EntryPoints([offered]).select(group=group))
    monkeypatch.setattr(EntryPoint, "load", lambda _: doubled)
    one_step = replace(SETTINGS, total_steps=1)
    engine = engine_of(
        tiny("llama"),
        tmp_path / "own",
        one_step,
        token_loss=chosen_loss(LossConfig(plugin="doubled", settings={"by": "3"})),
    )
    plain = engine_of(tiny("llama"), tmp_path / "plain", one_step)
    engine.train()
    plain.train()
    assert logged(engine, "loss")[0] == pytest.approx(3 * logged(plain, "loss")[0], rel=1e-5)


def doubled(by: str) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    return lambda logits, targets: float(by) * cross_entropy(logits, targets)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (LossConfig(plugin="unheard-of"), "focal, label-smoothing"),
        (LossConfig(plugin="focal", settings={"gamma": "-1"}), "gamma"),
        (LossConfig(plugin="focal", settings={"alpha": "1"}), "alpha"),
    ],
)
def test_a_loss_that_cannot_be_made_is_refused_with_what_there_is(config: LossConfig, words: str) -> None:
    with pytest.raises(WrongInputError) as refused:
        chosen_loss(config)
    assert words in refused.value.message


def test_classes_without_a_weight_count_once() -> None:
    assert class_weight_of(("ham", "spam"), {"spam": 4.0}) == {"ham": 1.0, "spam": 4.0}
    assert math.isclose(sum(class_weight_of(("a", "b"), {}).values()), 2)
