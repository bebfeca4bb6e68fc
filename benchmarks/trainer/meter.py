"""The stopwatch that every contender carries: when the first step began, and how fast the others were."""

# ruff: noqa: INP001, T201 - a program for people, no package

from __future__ import annotations

import json
import os
import resource
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


class Meter(TrainerCallback):
    """Notes when steps begin and end."""

    def __init__(self) -> None:
        self._first_began: float | None = None
        self._ended: list[float] = []
        self._batches: list[int] = []
        self._seen: list[int] = []

    def collating(self, collate: Any) -> Any:
        """Return the collator, with the real tokens of every batch counted."""

        def counted(rows: Any) -> Any:
            batch = collate(rows)
            mask = batch.get("attention_mask")
            self._batches.append(int(mask.sum()) if mask is not None else batch["input_ids"].numel())
            return batch

        return counted

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Note the first."""
        if self._first_began is None:
            self._first_began = time.time()

    def on_step_end(self, _args: Any, state: Any, _control: Any, **__: Any) -> None:
        """Note each, and the tokens so far where the trainer counts them without padding."""
        self._ended.append(time.monotonic())
        self._seen.append(state.num_input_tokens_seen)

    def tell(self, loss: float) -> None:
        """Print what was measured as one line of JSON."""
        # The first step pays for memory and kernels that the others find ready.
        first = self._batches[0] if self._batches else self._seen[0]
        total = sum(self._batches) if self._batches else self._seen[-1]
        result = {
            "tokens_per_s": (total - first) / (self._ended[-1] - self._ended[0]),
            "tokens": total,
            "steps": len(self._ended),
            "startup_s": (self._first_began or 0.0) - _process_began(),
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "loss": loss,
        }
        print("RESULT " + json.dumps(result), flush=True)


def _process_began() -> float:
    """Return the time at which the kernel started this process."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")
