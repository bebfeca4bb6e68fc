"""Every method in every layout that it is meant for: trains, saves, resumes, and equals a single process."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from rank_cases import Case, finished, result, run, with_

STEPS = 4
ALIKE = 2e-5
"""The order of the sums differs between layouts, nothing else: of weights around 0.1 after four large steps."""
CASES: list[Any] = [
    pytest.param(method, stage, offload, id=f"{method}-{name}")
    for method, stage, offload, name in (
        ("lora", None, "none", "ddp"),
        ("lora", 1, "none", "zero-1"),
        ("lora", 2, "none", "zero-2"),
        ("lora", 3, "none", "zero-3"),
        ("qlora", None, "none", "ddp"),
        ("qlora", 2, "none", "zero-2"),
        ("dora", None, "none", "ddp"),
        ("dora", 2, "none", "zero-2"),
        ("full", None, "none", "ddp"),
        ("full", 2, "none", "zero-2"),
        ("full", 3, "none", "zero-3"),
        ("full", 3, "parameters", "zero-3-offload"),
    )
]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same run on a single process, by method."""

    @cache
    def weights(method: Any) -> dict[str, torch.Tensor]:
        case = Case(folder=tmp_path_factory.mktemp(method), method=method, steps=STEPS, dropout=0.0)
        finished(case)
        return weights_of(case)

    return weights


def weights_of(case: Case) -> dict[str, torch.Tensor]:
    loaded: dict[str, torch.Tensor] = torch.load(case.folder / "weights.pt", weights_only=True)
    return loaded


def ensure_alike(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=0, atol=ALIKE, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(("method", "stage", "offload"), CASES)
def test_two_ranks_train_save_and_resume_what_one_process_trains(
    tmp_path: Path, alone: Any, method: Any, stage: Any, offload: Any
) -> None:
    case = Case(
        folder=tmp_path,
        method=method,
        zero_stage=stage,
        offload=offload,
        world_size=2,
        steps=STEPS,
        dropout=0.0,
    )
    whole = finished(case)
    assert whole["empty"] == []
    ensure_alike(weights_of(case), alone(method))
    if method == "lora":
        return  # test_ranks_resume kills and resumes these
    shutil.rmtree(tmp_path / "checkpoints" / f"checkpoint-{STEPS}")
    again = finished(case)
    assert again["resumedFrom"] == STEPS - 2
    assert again["digest"] == whole["digest"]


@pytest.mark.parametrize(
    ("method", "before", "after"),
    [
        pytest.param("lora", {"world_size": 2, "zero_stage": 2}, {"world_size": 1}, id="lora-zero-2-to-one"),
        pytest.param("lora", {"world_size": 1}, {"world_size": 2, "zero_stage": 3}, id="lora-one-to-zero-3"),
        pytest.param(
            "qlora", {"world_size": 2, "zero_stage": 2}, {"world_size": 1}, id="qlora-zero-2-to-one"
        ),
        pytest.param("full", {"world_size": 2}, {"world_size": 1}, id="full-ddp-to-one"),
    ],
)
def test_another_number_of_ranks_goes_on_with_the_same_steps(
    tmp_path: Path, alone: Any, method: Any, before: dict[str, Any], after: dict[str, Any]
) -> None:
    case = Case(folder=tmp_path, method=method, steps=STEPS, dropout=0.0, **before)
    finished(case)
    shutil.rmtree(tmp_path / "checkpoints" / f"checkpoint-{STEPS}")
    changed = Case(folder=tmp_path, method=method, steps=STEPS, dropout=0.0, **after)
    assert finished(changed)["resumedFrom"] == STEPS - 2
    ensure_alike(weights_of(changed), alone(method))


def test_sharded_full_tuning_on_another_number_of_ranks_is_refused_with_what_to_do(tmp_path: Path) -> None:
    case = Case(folder=tmp_path, method="full", world_size=2, zero_stage=2, steps=STEPS, dropout=0.0)
    finished(case)
    assert run(with_(case, world_size=1)) == [2]
    message = (tmp_path / "error-0.txt").read_text()
    assert "CheckpointMismatch" in message
    assert "2 processes under ZeRO stage 2" in message
    assert result(tmp_path)["resumedFrom"] is None
