"""Speed, time left and utilisation: figures that stay true through evaluation, saving and resuming."""

from __future__ import annotations

import pytest

from fettle_trainer.train.memory import ModelShape
from fettle_trainer.watch.flops import attended_length, flops_per_token, peak_flops, utilisation
from fettle_trainer.watch.pace import Pace, for_people

LLAMA_8B = ModelShape(
    parameters=8_030_261_248, layers=32, hidden=4096, vocabulary=128_256, trainable=41_943_040
)


def test_the_time_left_ignores_the_evaluation_in_between() -> None:
    pace = Pace()
    pace.started(0)
    for step, now in ((1, 10), (2, 12), (3, 14)):
        pace.step_done(now, step)
    pace.paused(500)  # an evaluation of 486 s
    pace.step_done(502, 4)
    assert pace.remaining_s(4, 10) == 12  # six steps of 2 s


def test_a_resumed_run_counts_from_where_it_stands() -> None:
    pace = Pace()
    pace.started(1000)
    for step, now in ((901, 1007), (902, 1008), (903, 1009)):
        pace.step_done(now, step)
    assert pace.remaining_s(903, 1000) == 97


def test_the_first_step_does_not_count_because_it_warms_everything_up() -> None:
    pace = Pace()
    pace.started(0)
    pace.step_done(60, 1)
    assert pace.remaining_s(1, 10) is None
    pace.step_done(61, 2)
    assert pace.remaining_s(2, 10) == 8


def test_the_window_forgets_what_was_slow_long_ago() -> None:
    pace = Pace(window_steps=2)
    pace.started(0)
    for step, now in ((1, 100), (2, 200), (3, 201), (4, 202)):
        pace.step_done(now, step)
    assert pace.remaining_s(4, 14) == 10


def test_tokens_and_waits_are_measured_against_training_time_alone() -> None:
    pace = Pace()
    pace.started(0)
    pace.step_done(1, 1)
    pace.tokens_seen(1000)
    pace.waited(0.5)
    pace.paused(100)
    pace.step_done(104, 2)
    pace.tokens_seen(3000)
    pace.waited(1.0)
    assert pace.tokens_per_second == pytest.approx(500)
    assert pace.data_wait_share == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59, "59s"), (61, "1m1s"), (4320, "1h12m"), (180_000, "2d2h")]
)
def test_durations_are_written_in_their_two_largest_units(seconds: int, text: str) -> None:
    assert for_people(seconds) == text


def test_frozen_weights_cost_four_flop_per_parameter_and_trained_ones_six() -> None:
    lora = flops_per_token(LLAMA_8B, "lora", 0)
    assert lora == pytest.approx(32.1e9, rel=0.01)  # the 32 GFLOP per token that is published for 8B
    assert flops_per_token(LLAMA_8B, "full", 0) == pytest.approx(1.5 * lora)


def test_attention_adds_what_the_length_costs() -> None:
    extra = flops_per_token(LLAMA_8B, "lora", 4096) - flops_per_token(LLAMA_8B, "lora", 0)
    # Forward: two products, 2·length·width each, half masked, 32 layers; backward twice that.
    assert extra == pytest.approx(3 * 2 * 2 * 4096 * 4096 / 2 * 32)


def test_a_long_row_counts_for_the_tokens_in_it() -> None:
    assert attended_length(10 + 90, 10**2 + 90**2) == pytest.approx(82)
    assert attended_length(0, 0) == 0


def test_utilisation_is_the_published_one_for_the_published_speed() -> None:
    peak = peak_flops("NVIDIA H100 80GB HBM3")
    flops = flops_per_token(LLAMA_8B, "lora", 0)
    assert utilisation(12_473, flops, peak, 1) == pytest.approx(0.405, abs=0.002)
    assert utilisation(12_473 * 8, flops, peak, 8) == pytest.approx(0.405, abs=0.002)
    assert utilisation(None, flops, peak, 1) is None


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA L40S", 362e12),
        ("Some CPU", None),
    ],
)
def test_the_peak_is_that_of_the_device_and_unknown_devices_have_none(name: str, peak: float | None) -> None:
    assert peak_flops(name) == peak
