"""How much memory a training process has needed at most."""

from __future__ import annotations

import resource
import sys
from typing import Final

import torch

_MAXRSS_UNIT_BYTES: Final = 1 if sys.platform == "darwin" else 1024


def peak_memory_bytes() -> int:
    """Return the accelerator's peak, all devices of this process together; without one, the process' own."""
    if torch.cuda.is_available():
        return sum(torch.cuda.max_memory_reserved(device) for device in range(torch.cuda.device_count()))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _MAXRSS_UNIT_BYTES
