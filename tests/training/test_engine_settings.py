"""Every `auto` becomes a value that fits the data and the machine, and says why."""

from dataclasses import replace
from typing import Any

import pytest

from fettle_trainer.config.run import RunConfig
from fettle_trainer.errors import WrongInputError
from fettle_trainer.train.hardware import Hardware
from fettle_trainer.train.memory import Load, ModelShape, estimate
from fettle_trainer.train.settings import Resolved, RowFacts, resolve, with_micro_batch

GIB = 2**30
CPU = Hardware("cpu", bf16=False, memory_bytes=16 * GIB, name="cpu")
H200 = Hardware("cuda", bf16=True, memory_bytes=141 * GIB, name="NVIDIA H200")
A10 = Hardware("cuda", bf16=True, memory_bytes=24 * GIB, name="NVIDIA A10")
T4 = Hardware("cuda", bf16=False, memory_bytes=16 * GIB, name="Tesla T4")
TINY = ModelShape(parameters=5_000_000, layers=4, hidden=256, vocabulary=4096, trainable=200_000)
EIGHT_B = ModelShape(8_030_000_000, layers=32, hidden=4096, vocabulary=128_256, trainable=42_000_000)
SEVENTY_B = ModelShape(70_600_000_000, layers=80, hidden=8192, vocabulary=128_256, trainable=207_000_000)
ROWS = RowFacts(rows=1000, max_length=512, longest=512, trained_share=0.5, validation_rows=50)


def run(**changes: Any) -> RunConfig:
    document: dict[str, Any] = {
        "model": {"path": "base"},
        "dataset": {"train": [{"path": "data.jsonl"}]},
        "output": {"directory": "store", "adapterName": "tuned"},
    }
    return RunConfig.model_validate(document | changes)


def resolved(
    hardware: Hardware = CPU,
    shape: ModelShape = TINY,
    rows: RowFacts = ROWS,
    *,
    varlen: bool = False,
    **changes: Any,
) -> Resolved:
    return resolve(run(**changes), rows, shape, hardware, varlen_attention=varlen)


def test_a_run_that_says_nothing_gets_the_defaults_of_the_field() -> None:
    found = resolved()
    assert (found.batch_size, found.micro_batch_size, found.micro_batches) == (16, 8, 2)
    assert (found.learning_rate, found.rank, found.alpha, found.dropout) == (2e-4, 16, 32.0, 0.0)
    assert (found.total_steps, found.warmup_steps, found.schedule) == (189, 6, "cosine")
    assert (found.precision, found.zero_stage, found.packing) == ("fp32", 0, False)
    assert (found.eval_every, found.save_every) == (50, 50)
    assert {"precision", "batchSize", "microBatchSize", "epochs", "zeroStage"} <= found.reasons.keys()


@pytest.mark.parametrize(
    ("hardware", "precision"),
    [(CPU, "fp32"), (H200, "bf16"), (T4, "fp16"), (Hardware("cpu", True, GIB, "cpu"), "bf16")],
)
def test_precision_follows_the_hardware(hardware: Hardware, precision: str) -> None:
    assert resolved(hardware).precision == precision


@pytest.mark.parametrize(
    ("training", "hardware", "field"),
    [
        ({"precision": "bf16"}, CPU, "training.precision"),
        ({"precision": "fp16"}, CPU, "training.precision"),
        ({"precision": "bf16"}, T4, "training.precision"),
        ({"optimizer": "paged-adamw-8bit"}, CPU, "training.optimizer"),
    ],
)
def test_what_the_machine_cannot_do_is_refused_with_the_fields_name(
    training: dict[str, Any], hardware: Hardware, field: str
) -> None:
    with pytest.raises(WrongInputError) as refused:
        resolved(hardware, training=training)
    assert refused.value.param == field
    assert field in refused.value.message


@pytest.mark.parametrize(
    ("shape", "hardware", "method", "processes", "stage"),
    [
        (EIGHT_B, H200, "lora", 1, 0),  # nobody to share with
        (EIGHT_B, H200, "lora", 8, 0),  # it fits, and sharing costs time
        (EIGHT_B, H200, "full", 8, 2),  # weights fit, the optimizer's state beside them does not
        (EIGHT_B, A10, "full", 8, 3),
        (SEVENTY_B, H200, "lora", 8, 3),  # 141 GB of bf16 weights leave no room
    ],
)
def test_zero_is_the_least_that_fits(
    shape: ModelShape, hardware: Hardware, method: str, processes: int, stage: int
) -> None:
    if method == "full":
        shape = replace(shape, trainable=shape.parameters)
    found = resolved(
        hardware,
        shape,
        method=method,
        distributed={"processesPerNode": processes},
        training={"microBatchSize": 1},
    )
    assert found.zero_stage == stage
    assert found.reasons["zeroStage"].startswith(str(stage))


def test_a_model_that_barely_fits_gets_checkpoints_before_a_smaller_batch_than_one() -> None:
    found = resolved(A10, EIGHT_B, RowFacts(1000, 4096, 4096, 1.0, 0))
    assert found.gradient_checkpointing
    assert found.micro_batch_size == 1
    assert found.micro_batches == 16


def test_half_the_micro_batch_keeps_the_global_batch() -> None:
    found = with_micro_batch(resolved(), 4, "it did not fit")
    assert (found.batch_size, found.micro_batch_size, found.micro_batches) == (16, 4, 4)


def test_packing_is_on_where_attention_needs_no_square_mask() -> None:
    assert resolved(H200, varlen=True).packing
    assert not resolved(H200).packing
    assert resolved(training={"packing": True}).packing


def test_few_rows_still_make_several_steps() -> None:
    found = resolved(rows=RowFacts(30, 64, 64, 0.5, 0))
    assert found.batch_size == 3
    assert found.eval_every is None


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"method": "qlora", "lora": {"initWeights": "pissa"}}, "lora.initWeights"),
        ({"lora": {"initWeights": "olora"}, "distributed": {"zero": {"stage": 3}}}, "lora.initWeights"),
        ({"method": "qlora", "distributed": {"zero": {"stage": 3}}}, "distributed.zero.stage"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(WrongInputError) as refused:
        resolved(**changes)
    assert refused.value.param == field


def test_the_memory_model_is_near_what_the_field_has_measured() -> None:
    """GB per billion parameters of LLaMA-Factory's table: full 18 (bf16 autocast), LoRA 2, QLoRA 0.5 (4 bit)."""
    small = {"micro_batch_size": 1, "length": 512, "gradient_checkpointing": True}
    full = ModelShape(8_030_000_000, 32, 4096, 128_256, trainable=8_030_000_000)
    per_billion = {
        "full": estimate(full, Load("full", "bf16", **small)).total / 8.03e9,
        "lora": estimate(EIGHT_B, Load("lora", "bf16", **small)).total / 8.03e9,
        "qlora": estimate(EIGHT_B, Load("qlora", "bf16", **small)).total / 8.03e9,
    }
    assert 16 <= per_billion["full"] <= 22
    assert 2 <= per_billion["lora"] <= 3
    assert 0.5 <= per_billion["qlora"] <= 1.3
