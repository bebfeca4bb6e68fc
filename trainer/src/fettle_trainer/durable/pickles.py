"""Pickles in checkpoints: torch and DeepSpeed write them, and a tenant can write to the volume they lie on.

A record with the right digests proves that nothing was damaged, not that nobody meant harm. So every pickle may name
only what the libraries themselves write there, and is then loaded by torch's restricted reader, which can build
those things and nothing else.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import torch

from fettle_trainer.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SUFFIXES: Final = {".pt", ".pth", ".bin"}
_ALLOWED: Final = frozenset(
    {
        # numpy's random state, in rng_state*.pth
        "numpy._core.multiarray._reconstruct",
        "numpy.dtype",
        "numpy.dtypes.UInt32DType",
        "numpy.ndarray",
        # DeepSpeed's sharded state
        "deepspeed.runtime.fp16.loss_scaler.DynamicLossScaler",
        "deepspeed.runtime.fp16.loss_scaler.LossScaler",
        "deepspeed.runtime.zero.config.ZeroStageEnum",
        "deepspeed.utils.tensor_fragment.fragment_address",
    }
)
"""What torch.save and DeepSpeed write beside tensors and plain containers."""
_FORCE: Final = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


def refuse_unsafe_pickles(folder: Path) -> None:
    """Refuse a checkpoint with a pickle that names anything but what the libraries write."""
    for path in sorted(path for path in folder.rglob("*") if path.suffix in _SUFFIXES):
        try:
            foreign = set(torch.serialization.get_unsafe_globals_in_checkpoint(path)) - _ALLOWED
        except Exception as error:
            reason = f"{path.relative_to(folder)} cannot be read as what torch saves ({type(error).__name__})"
            raise _refused(folder, reason) from error
        if foreign:
            raise _refused(folder, f"{path.relative_to(folder)} names {', '.join(sorted(foreign))}")


@contextmanager
def restricted_unpickling() -> Iterator[None]:
    """Let torch.load build nothing but the allowed things, whoever calls it and however."""
    before = os.environ.get(_FORCE)
    os.environ[_FORCE] = "1"
    try:
        with torch.serialization.safe_globals(_loaded()):
            yield
    finally:
        if before is None:
            del os.environ[_FORCE]
        else:
            os.environ[_FORCE] = before


def _loaded() -> list[Any]:
    """Return the allowed things of the libraries that are loaded; nothing else can be in use."""
    found = (name.rsplit(".", 1) for name in _ALLOWED)
    return [getattr(sys.modules[module], word) for module, word in found if module in sys.modules]


def _refused(folder: Path, reason: str) -> WrongInputError:
    return WrongInputError(
        "CheckpointUnsafe",
        f"The checkpoint {folder} is not loaded: {reason}, which no checkpoint of a trainer does."
        " Somebody else has written it; remove the folder to go on from an earlier one.",
        folder.name,
    )
