"""The base model: loaded from a folder, with nothing executed that lies beside its weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging as transformers_logging

from fettle_server.engine.masks import Attention
from fettle_server.engine.types import BaseRefusedError
from fettle_trainer.adapter.errors import AdapterRefusedError, FileChangedError
from fettle_trainer.adapter.model_folder import folder_digest
from fettle_trainer.adapter.verify import verify_adapter
from fettle_trainer.config.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from pathlib import Path

    from fettle_server.engine.settings import EngineSettings

_DTYPES: Final = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class BaseModel:
    """What adapters are put on."""

    model: Any
    folder: Path
    digest: str
    attention: Attention
    max_positions: int | None
    """How long a text the model was made for, if its configuration says so."""
    stop_ids: frozenset[int]
    """The tokens that end an answer, as generation_config.json says."""

    @property
    def device(self) -> Any:
        """Where the weights lie."""
        return self.model.device

    @property
    def layers(self) -> int:
        """How many layers keep keys and values."""
        return int(self.model.config.get_text_config().num_hidden_layers)

    @property
    def token_bytes(self) -> int:
        """What the cache keeps for one token."""
        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        dimension = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return 2 * self.layers * int(heads) * int(dimension) * int(self.model.dtype.itemsize)


def load_base_model(settings: EngineSettings) -> BaseModel:
    """Load and check the base model; raise BaseRefusedError with a sentence if it cannot be served."""
    folder = settings.base
    _verify_release(folder)
    transformers_logging.disable_progress_bar()
    config = _read_config(folder)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype="auto" if settings.dtype == "auto" else _DTYPES[settings.dtype],
            attn_implementation=_attention(config),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        message = f"The weights in {folder} cannot be loaded: {_first_line(error)}"
        raise BaseRefusedError(message) from error
    model = model.to(_device(settings)).eval().requires_grad_(False)
    text = config.get_text_config()
    return BaseModel(
        model=model,
        folder=folder,
        digest=folder_digest(folder),
        attention=Attention.of(model),
        max_positions=getattr(text, "max_position_embeddings", None),
        stop_ids=_stop_ids(model),
    )


def _verify_release(folder: Path) -> None:
    """Hold a release folder to its manifest; a folder without one is taken as it is."""
    if not folder.is_dir():
        raise BaseRefusedError(f"{folder} is not a folder; name the folder that holds the base model.")
    if not (folder / MANIFEST_NAME).is_file():
        return
    try:
        found = verify_adapter(folder.absolute())
    except (AdapterRefusedError, FileChangedError) as error:
        raise BaseRefusedError(f"The model in {folder} is not what its manifest says: {error}") from error
    if found.artefact != "model":
        raise BaseRefusedError(
            f"{folder} holds an adapter, not a whole model. Name its base model ({found.base_model}) here, and the "
            "adapter among those to serve."
        )


def _read_config(folder: Path) -> Any:
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise BaseRefusedError(f"{folder} holds no model that can be read: {_first_line(error)}") from error
    if type(config) not in AutoModelForCausalLM._model_mapping:  # noqa: SLF001 - there is no public way to ask
        raise BaseRefusedError(
            f"A model of type {config.model_type} does not continue texts. Name a causal language model."
        )
    return config


def _attention(config: Any) -> str:
    # Attention whose scores are capped, as Gemma 2's, is left uncapped by the fused kernels of torch.
    capped = getattr(config.get_text_config(), "attn_logit_softcapping", None)
    return "eager" if capped else "sdpa"


def _device(settings: EngineSettings) -> str:
    if settings.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise BaseRefusedError(
            "device is cuda, but torch finds no GPU. Set device to auto, or ask for a GPU."
        )
    return settings.device


def _stop_ids(model: Any) -> frozenset[int]:
    configured = getattr(model.generation_config, "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in ids if token is not None)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
