"""Whether vLLM can load an adapter, and what a request needs that asks for it. Reads files, knows no vLLM.

vLLM checks less than we promise: it would serve weights that are not the ones the operator named, and it has one
chat template for all adapters. So the folder is verified first, and its own template and stop tokens go along with
each request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fettle_server.engine.promises import (
    refusing,
    require_adapter,
    require_base,
    require_digest,
    require_plain_base,
)
from fettle_server.engine.refusal import Reason, RefusedAdapterError
from fettle_server.vllm.ranks import rank_step
from fettle_trainer import strict_json
from fettle_trainer.adapter.directory import AdapterDirectory, open_adapter_directory
from fettle_trainer.adapter.inspect import TEMPLATE_NAME
from fettle_trainer.adapter.peft_config import CONFIG_NAME, MAX_CONFIG_BYTES, PeftConfig, parse_peft_config
from fettle_trainer.adapter.verify import verify_adapter

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fettle_server.engine.types import AdapterSpec
    from fettle_server.vllm.settings import LayerSettings
    from fettle_trainer.config.verification import VerifiedAdapter

__all__ = ["Target", "loadable", "lora_name"]

_WAY_OUT: Final = "Serve the merged model, or use engine transformers."
_MAX_TEMPLATE_BYTES: Final = 2**20
_MAX_TOKENIZER_BYTES: Final = 64 * 2**20


@dataclass(frozen=True, slots=True)
class Target:
    """What a request has to say to be answered by an adapter."""

    lora_name: str
    """Holds the digest: vLLM keeps caches by name, so a name never gets other weights."""
    folder: Path
    template: str | None = None
    stop_token_ids: tuple[int, ...] = ()


def loadable(spec: AdapterSpec, settings: LayerSettings) -> Target:
    """Verify a release folder and return how to ask for it; raise RefusedAdapterError for what vLLM cannot serve."""
    folder = settings.adapters_root / spec.path
    with refusing(spec):
        verified = verify_adapter(folder)
        require_adapter(spec, verified)
        with open_adapter_directory(folder) as directory:
            config = parse_peft_config(directory.read(CONFIG_NAME, MAX_CONFIG_BYTES))
            _check(spec, settings, verified, config)
            return Target(lora_name(spec), folder, _template(directory), _stop_token_ids(directory))


def lora_name(spec: AdapterSpec) -> str:
    """Return vLLM's name of an adapter."""
    return f"{spec.revision}.{spec.digest.removeprefix('sha256:')[:16]}"


def _check(spec: AdapterSpec, settings: LayerSettings, verified: VerifiedAdapter, config: PeftConfig) -> None:
    require_digest(spec, verified)
    if settings.base_digest:
        require_base(verified, settings.base_digest)
    require_plain_base(verified, _WAY_OUT)
    obstacles = list(_obstacles(config))
    if obstacles:
        raise RefusedAdapterError(Reason.SETTING_UNSUPPORTED, " ".join([*obstacles, _WAY_OUT]))
    _check_rank(verified.rank or 0, settings.max_lora_rank)


def _obstacles(config: PeftConfig) -> Iterator[str]:
    if config.use_dora:
        yield "The adapter is a DoRA, and vLLM loads no magnitude vectors."
    if config.modules_to_save:
        names = ", ".join(config.modules_to_save)
        yield f"The adapter holds modules saved whole ({names}), and vLLM loads low-rank weights only."
    if config.bias != "none" or config.lora_bias:
        yield "The adapter has trained biases, and vLLM loads none."
    if config.trainable_token_indices:
        yield "The adapter has trained token embeddings, and vLLM loads none."


def _check_rank(rank: int, limit: int) -> None:
    if rank <= limit:
        return
    step = rank_step(rank)
    way_out = _WAY_OUT if step is None else f"Set maxLoraRank to {step}. Otherwise: {_WAY_OUT}"
    raise RefusedAdapterError(
        Reason.RANK_TOO_LARGE, f"The adapter has rank {rank}; this server takes up to {limit}. {way_out}"
    )


def _template(directory: AdapterDirectory) -> str | None:
    if TEMPLATE_NAME not in directory:
        return None
    return directory.read(TEMPLATE_NAME, _MAX_TEMPLATE_BYTES).decode()


def _stop_token_ids(directory: AdapterDirectory) -> tuple[int, ...]:
    """Return the token that ends an answer, as the adapter's own tokenizer names it."""
    config = _document(directory, "tokenizer_config.json")
    end = config.get("eos_token")
    text = end.get("content") if isinstance(end, dict) else end
    added = _document(directory, "tokenizer.json").get("added_tokens", [])
    return tuple(token["id"] for token in added if isinstance(text, str) and token.get("content") == text)


def _document(directory: AdapterDirectory, name: str) -> dict[str, Any]:
    if name not in directory:
        return {}
    try:
        document = strict_json.loads(directory.read(name, _MAX_TOKENIZER_BYTES))
    except strict_json.StrictJsonError as error:
        raise RefusedAdapterError(Reason.TOKENIZER_INVALID, f"{name} is no JSON: {error}.") from error
    return document if isinstance(document, dict) else {}
