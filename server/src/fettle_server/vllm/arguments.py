"""vLLM's command line and environment from typed settings. Pure: whoever starts the pod does not need vLLM."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from fettle_server.errors import InvalidSettings
from fettle_server.vllm.ranks import RANK_STEPS, rank_step
from fettle_server.vllm.settings import LayerSettings

__all__ = ["MIDDLEWARE", "VllmRuntime", "arguments", "environment"]

MIDDLEWARE: Final = "fettle_server.vllm.middleware.FettleLayer"

_DTYPES: Final = {"auto": "auto", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_MOST_PER_BATCH: Final = 8
"""Each adapter in a batch takes room on the GPU for the largest rank, used or not."""


@dataclass(frozen=True, slots=True)
class VllmRuntime:
    """How a pool's pods run; the words of an InferenceDeployment's `runtime`."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(alias_generator=to_camel, extra="forbid")
    """For the file that they are read from."""

    model: Path
    """The base model's folder."""
    model_name: str
    base_revision: str
    adapters_root: Path
    admin_token_file: Path
    port: int = 8000
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    max_context: int | None = None
    max_adapters: int = 16
    """Held in memory at a time; 0 serves the base alone."""
    adapters_per_batch: int | None = None
    """Of those, how many one batch may mix; left out, as many as are held, 8 at most."""
    max_lora_rank: int = 16
    max_concurrent_requests: int = 256
    max_queued_requests: int = 256
    drain_seconds: int = 30
    """What running answers have when the pod is told to end; the pod's grace period must be longer."""
    gpu_memory_fraction: float | None = None
    tensor_parallel: int = 1
    base_digest: str = ""
    pairs_folder: Path | None = None
    extra_paths: frozenset[str] = frozenset()


def arguments(runtime: VllmRuntime) -> list[str]:
    """Return what follows `vllm serve`, or raise InvalidSettings with everything that does not fit."""
    wrong = list(_problems(runtime))
    if wrong:
        raise InvalidSettings(" ".join(wrong))
    words = [
        str(runtime.model),
        *("--served-model-name", runtime.model_name),
        *("--host", "0.0.0.0"),  # noqa: S104 - a pod is reached by its own address
        *("--port", str(runtime.port)),
        *("--middleware", MIDDLEWARE),
        *("--dtype", _DTYPES[runtime.precision]),
        # Weights are read from safetensors only: other formats are pickles.
        *("--load-format", "safetensors"),
        *("--max-num-seqs", str(runtime.max_concurrent_requests)),
        *("--tensor-parallel-size", str(runtime.tensor_parallel)),
        *("--shutdown-timeout", str(runtime.drain_seconds)),
        # Shadow copies come last.
        *("--scheduling-policy", "priority"),
        # The layer puts each adapter's own template into the request, and lets no client do so.
        "--trust-request-chat-template",
        "--disable-fastapi-docs",
    ]
    if runtime.max_context is not None:
        words += ["--max-model-len", str(runtime.max_context)]
    if runtime.gpu_memory_fraction is not None:
        words += ["--gpu-memory-utilization", f"{runtime.gpu_memory_fraction:g}"]
    return words + list(_lora(runtime))


def environment(runtime: VllmRuntime) -> dict[str, str]:
    """Return the variables that vLLM and the layer in it need."""
    settings = LayerSettings(
        model_name=runtime.model_name,
        base_revision=runtime.base_revision,
        adapters_root=runtime.adapters_root,
        admin_token_file=runtime.admin_token_file,
        max_adapters=runtime.max_adapters,
        max_lora_rank=rank_step(runtime.max_lora_rank) or RANK_STEPS[-1],
        max_running=runtime.max_concurrent_requests,
        max_waiting=runtime.max_queued_requests,
        base_digest=runtime.base_digest,
        pairs_folder=runtime.pairs_folder,
        extra_paths=runtime.extra_paths,
    )
    loading = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"} if runtime.max_adapters else {}
    return {**settings.environment(), **loading, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}


def _lora(runtime: VllmRuntime) -> Iterator[str]:
    if not runtime.max_adapters:
        return
    yield "--enable-lora"
    yield from ("--max-lora-rank", str(rank_step(runtime.max_lora_rank)))
    yield from ("--max-loras", str(_per_batch(runtime)))
    yield from ("--max-cpu-loras", str(runtime.max_adapters))


def _per_batch(runtime: VllmRuntime) -> int:
    if runtime.adapters_per_batch is not None:
        return runtime.adapters_per_batch
    return min(runtime.max_adapters, _MOST_PER_BATCH)


def _problems(runtime: VllmRuntime) -> Iterator[str]:
    for field, value, least in (
        ("maxContext", runtime.max_context, 1),
        ("maxAdapters", runtime.max_adapters, 0),
        ("maxLoraRank", runtime.max_lora_rank, 1),
        ("maxConcurrentRequests", runtime.max_concurrent_requests, 1),
        ("maxQueuedRequests", runtime.max_queued_requests, 0),
        ("tensorParallel", runtime.tensor_parallel, 1),
        ("drainSeconds", runtime.drain_seconds, 0),
    ):
        if value is not None and value < least:
            yield f"{field} is {value}; it must be {least} or more."
    if rank_step(runtime.max_lora_rank) is None:
        yield (
            f"maxLoraRank is {runtime.max_lora_rank}; vLLM loads adapters of rank {RANK_STEPS[-1]} at most. "
            "Serve the merged model, or use engine transformers."
        )
    if runtime.max_adapters and not 1 <= _per_batch(runtime) <= runtime.max_adapters:
        yield (
            f"adaptersPerBatch is {_per_batch(runtime)}; it must be between 1 and maxAdapters "
            f"({runtime.max_adapters})."
        )
    fraction = runtime.gpu_memory_fraction
    if fraction is not None and not 0 < fraction <= 1:
        yield f"gpuMemoryFraction is {fraction:g}; it must be above 0 and at most 1."
    if runtime.model_name == runtime.base_revision:
        yield f"The model and its base revision are both called {runtime.model_name!r}; give them two names."
