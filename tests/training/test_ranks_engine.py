"""The whole engine on two ranks: its plan of the rows and its loss give what one process gives, step by step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rank_cases import Case, finished

Run = Callable[..., tuple[list[tuple[float, float]], dict[str, torch.Tensor]]]


@pytest.fixture
def run(tmp_path: Path, tiny: Callable[[str], Path]) -> Run:
    """Train, and return the loss and the gradients' norm of every step, and the trained weights."""
    # Rows of all lengths, and not a whole number of steps: the ranks never have the same number of tokens.
    rows = [
        {"prompt": f"{n} and {n}?", "completion": "so " * (1 + n * n % 17) + f"{2 * n}"} for n in range(22)
    ]
    data = tmp_path / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def trained(name: str, method: str, **case: Any) -> Any:
        folder = tmp_path / name
        folder.mkdir()
        document = {
            "model": {"path": str(tiny("llama"))},
            "dataset": {"train": [{"path": str(data)}], "validationSplit": "0%"},
            "method": method,
            "training": {
                "maxSteps": 6, "batchSize": 8, "microBatchSize": 2, "learningRate": 0.002, "logEvery": 1,
            },
            "distributed": {"zero": {"stage": case.pop("stage", 0)}},
            "output": {"directory": str(folder), "adapterName": "tuned"},
        }  # fmt: skip
        (folder / "run.json").write_text(json.dumps(document))
        found = finished(Case(folder=folder, run_file=folder / "run.json", **case))
        return found["steps"], torch.load(folder / "weights.pt", weights_only=True)

    return trained


@pytest.mark.parametrize(("method", "stages"), [("lora", (0, 2, 3)), ("full", (3,))], ids=["lora", "full"])
def test_ranks_learn_in_every_step_what_one_process_learns(
    run: Run, method: str, stages: tuple[int, ...]
) -> None:
    steps, weights = run("alone", method)
    for stage in stages:
        found_steps, found = run(f"zero-{stage}", method, world_size=2, stage=stage)
        assert len(found_steps) == 6
        for wanted, got in zip(steps, found_steps, strict=True):
            assert got == pytest.approx(wanted, rel=1e-3), f"loss and gradients under ZeRO stage {stage}"
        assert found.keys() == weights.keys()
        for name, value in weights.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=2e-5, msg=f"{name}, stage {stage}")
