"""What this machine can do, as far as the settings depend on it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

_CPU_BF16: Final = frozenset({"avx512_bf16", "amx_bf16"})
"""Without one of these a CPU multiplies bf16 some fifty times slower than fp32."""


@dataclass(frozen=True)
class Hardware:
    """One process' share of the machine."""

    device: Literal["cpu", "cuda"]
    bf16: bool
    memory_bytes: int
    name: str

    @property
    def is_gpu(self) -> bool:
        """Say whether it is a GPU."""
        return self.device == "cuda"


def local_hardware(processes_here: int = 1) -> Hardware:
    """Look at the machine."""
    import torch  # noqa: PLC0415 - what a CPU can do is asked where torch is kept out, too

    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(torch.cuda.current_device())
        return Hardware("cuda", torch.cuda.is_bf16_supported(), properties.total_memory, properties.name)
    return local_cpu(processes_here)


def local_cpu(processes_here: int = 1) -> Hardware:
    """Look at the machine's processor alone."""
    return Hardware("cpu", bool(_cpu_flags() & _CPU_BF16), _memory_limit() // processes_here, "cpu")


def _cpu_flags() -> frozenset[str]:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("flags"):
            return frozenset(line.split(":", 1)[1].split())
    return frozenset()


def _memory_limit() -> int:
    """Return the container's limit where there is one, else what is in the machine."""
    installed = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            return min(installed, int(Path(file).read_text()))
        except (OSError, ValueError):
            continue
    return installed
