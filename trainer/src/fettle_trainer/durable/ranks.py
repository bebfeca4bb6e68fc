"""Joining the other ranks of a run: before transformers' arguments exist, because those only find what is there."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import torch
from torch import distributed
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from fettle_trainer.durable.zero import choose_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WAIT: Final = timedelta(minutes=30)
"""How long a rank waits for another one in a collective; data is prepared before, so nobody is that slow."""
_COMPILED_AT_START: Final = "deepspeed_shm_comm"
"""DeepSpeed's own collectives on CPUs; gloo does the same."""


def is_worker(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether torchrun started this process as one of several ranks."""
    return "RANK" in environment and int(environment.get("WORLD_SIZE", "1")) > 1


def is_first_rank(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this is the rank that speaks for all; the only one is."""
    return environment.get("RANK", "0") == "0"


def join_ranks(*, with_deepspeed: bool) -> None:
    """Start the process group if there are several ranks, or if DeepSpeed needs one of a single rank."""
    on_gpu = torch.cuda.is_available()
    choose_device(on_gpu=on_gpu)
    if distributed.is_initialized() or not (is_worker() or with_deepspeed):
        return
    if not is_worker():
        _pretend_one_rank()
    if on_gpu:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    # Flags and verdicts travel over gloo even where gradients travel over NCCL.
    backend = "nccl" if on_gpu else "gloo"
    if with_deepspeed:
        with hidden("mlflow"):
            import deepspeed  # noqa: PLC0415 - seconds that a run without it does not pay

        # It would be compiled now, and a rank that is killed meanwhile leaves a lock that all later runs wait for.
        deepspeed.ops.__compatible_ops__[_COMPILED_AT_START] = False
        # Not left to accelerate: on the CPU it starts torch's group alone, and ZeRO-3 then sees a world of one.
        deepspeed.init_distributed(
            dist_backend=backend, auto_mpi_discovery=False, timeout=WAIT, verbose=False
        )
    else:
        distributed.init_process_group(backend, timeout=WAIT)


def leave_ranks() -> None:
    """Part from the other ranks, once all of them have come so far; this process goes on as one alone."""
    if distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
    # accelerate keeps the settings of ZeRO alive, and transformers would cut every model that is loaded from now on.
    unset_hf_deepspeed_config()


@contextmanager
def hidden(module: str) -> Iterator[None]:
    """Keep a module from being imported: DeepSpeed's autotuner would, which takes seconds and is not used."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment] # Python's own way to say: not to be found
    try:
        yield
    finally:
        del sys.modules[module]


def _pretend_one_rank() -> None:
    os.environ |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "0")
