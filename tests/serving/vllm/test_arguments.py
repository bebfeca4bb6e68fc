"""vLLM's command line as it is rendered from settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fettle_server.errors import InvalidSettings
from fettle_server.vllm.arguments import VllmRuntime, arguments, environment
from fettle_server.vllm.ranks import rank_step
from fettle_server.vllm.settings import LayerSettings, from_environment


def runtime(**changes: Any) -> VllmRuntime:
    known: dict[str, Any] = {
        "model": Path("/models/base"),
        "model_name": "bot",
        "base_revision": "base-1",
        "adapters_root": Path("/adapters"),
        "admin_token_file": Path("/token"),
    }
    return VllmRuntime(**{**known, **changes})


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


@pytest.mark.parametrize(
    ("rank", "step"),
    [(1, 1), (2, 8), (8, 8), (16, 16), (17, 32), (129, 256), (257, 320), (321, 512), (512, 512), (513, None)],
)
def test_a_rank_takes_the_next_step_that_vllm_knows(rank: int, step: int | None) -> None:
    assert rank_step(rank) == step


def test_the_whole_line_for_a_pool_of_adapters() -> None:
    words = arguments(
        runtime(
            precision="bf16", max_context=4096, max_lora_rank=24, tensor_parallel=2, gpu_memory_fraction=0.9
        )
    )
    assert " ".join(words) == (
        "/models/base --served-model-name bot --host 0.0.0.0 --port 8000 "
        "--middleware fettle_server.vllm.middleware.FettleLayer --dtype bfloat16 --load-format safetensors "
        "--max-num-seqs 256 --tensor-parallel-size 2 --shutdown-timeout 30 --scheduling-policy priority "
        "--trust-request-chat-template --disable-fastapi-docs --max-model-len 4096 --gpu-memory-utilization 0.9 "
        "--enable-lora --max-lora-rank 32 --max-loras 8 --max-cpu-loras 16"
    )


def test_a_batch_mixes_no_more_adapters_than_are_held() -> None:
    assert option(arguments(runtime(max_adapters=3)), "--max-loras") == "3"
    assert option(arguments(runtime(max_adapters=30, adapters_per_batch=20)), "--max-loras") == "20"


def test_a_base_alone_is_served_without_lora_and_without_its_calls() -> None:
    alone = runtime(max_adapters=0)
    assert "--enable-lora" not in arguments(alone)
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in environment(alone)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"max_lora_rank": 600}, "maxLoraRank is 600; vLLM loads adapters of rank 512 at most."),
        ({"max_adapters": 2, "adapters_per_batch": 3}, "adaptersPerBatch is 3; it must be between 1 and"),
        ({"max_adapters": 2, "adapters_per_batch": 0}, "adaptersPerBatch is 0; it must be between 1 and"),
        ({"gpu_memory_fraction": 1.5}, "gpuMemoryFraction is 1.5;"),
        ({"max_context": 0}, "maxContext is 0; it must be 1 or more."),
        ({"base_revision": "bot"}, "give them two names"),
    ],
)
def test_a_setting_that_does_not_fit_is_a_sentence(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        arguments(runtime(**changes))
    assert sentence in str(refused.value)


def test_all_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(InvalidSettings) as refused:
        arguments(runtime(max_lora_rank=600, tensor_parallel=0))
    assert "maxLoraRank" in str(refused.value)
    assert "tensorParallel" in str(refused.value)


def test_the_layer_reads_what_the_environment_says() -> None:
    asked = runtime(
        max_lora_rank=24,
        max_concurrent_requests=7,
        max_queued_requests=0,
        pairs_folder=Path("/pairs"),
        base_digest="sha256:" + 64 * "a",
        extra_paths=frozenset({"/v1/embeddings"}),
    )
    read = from_environment(environment(asked))
    assert (read.model_name, read.base_revision, read.max_adapters) == ("bot", "base-1", 16)
    assert (read.max_lora_rank, read.max_running, read.max_waiting) == (32, 7, 0)
    assert (read.pairs_folder, read.base_digest) == (Path("/pairs"), asked.base_digest)
    assert read.extra_paths == {"/v1/embeddings"}


def test_what_the_environment_leaves_out_has_a_default() -> None:
    names = ("MODEL_NAME", "BASE_REVISION", "ADAPTERS_ROOT", "ADMIN_TOKEN_FILE")
    needed = {f"FETTLE_{name}": environment(runtime())[f"FETTLE_{name}"] for name in names}
    read = from_environment(needed)
    assert read == LayerSettings("bot", "base-1", Path("/adapters"), Path("/token"))


@pytest.mark.parametrize(
    ("name", "value"),
    [("FETTLE_MODEL_NAME", ""), ("FETTLE_MAX_RUNNING", "many"), ("FETTLE_EXTRA_PATHS", "v1/embeddings")],
)
def test_a_wrong_variable_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidSettings, match=name):
        from_environment({**environment(runtime()), name: value})
