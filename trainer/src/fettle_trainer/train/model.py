"""The base model: what it is, without its weights, and loading it as the method asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import torch
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils import is_flash_attn_2_available

from fettle_trainer.errors import WrongInputError
from fettle_trainer.train.memory import ModelShape

if TYPE_CHECKING:
    from pathlib import Path

    from fettle_trainer.config.adapter import Method
    from fettle_trainer.config.run import LoraConfig
    from fettle_trainer.train.memory import Precision

DTYPES: Final[dict[str, torch.dtype]] = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_EAGER: Final = frozenset({"gemma2"})
"""These cap the attention's scores, which the fused kernels of torch leave out."""


def read_config(folder: Path) -> Any:
    """Return the model's configuration; raise WrongInputError when it is none that can be trained."""
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        message = f"{folder} holds no model that can be read: {_first_line(error)}"
        raise WrongInputError("ModelUnreadable", message, "model") from error
    if type(config) not in AutoModelForCausalLM._model_mapping:  # noqa: SLF001 - there is no public way to ask
        message = (
            f"A model of type {config.model_type} does not continue texts. Choose a causal language model."
        )
        raise WrongInputError("ModelUnsupported", message, "model")
    return config


def model_shape(folder: Path, method: Method, lora: LoraConfig, rank: int) -> ModelShape:
    """Return what the memory depends on, without reading a weight."""
    config = read_config(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    text = config.get_text_config()
    return ModelShape(
        parameters=parameters,
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        vocabulary=text.vocab_size,
        trainable=parameters if method == "full" else _adapter_parameters(model, lora, rank),
    )


def has_varlen_attention() -> bool:
    """Say whether rows that lie end to end can be attended to without a mask as large as their square."""
    return bool(torch.cuda.is_available() and is_flash_attn_2_available())


def load_base(folder: Path, method: Method, precision: Precision) -> Any:
    """Load the weights: safetensors only, nothing executed that lies beside them."""
    config = read_config(folder)
    dtype = DTYPES[precision]
    extra: dict[str, Any] = {}
    if method == "qlora":
        extra["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            # With method full the weights that are trained stay fp32; autocast computes in less.
            dtype=torch.float32 if method == "full" else dtype,
            attn_implementation=attention_for(config.model_type, precision),
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            **extra,
        )
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        message = f"The weights in {folder} cannot be loaded: {_first_line(error)}"
        raise WrongInputError("ModelUnreadable", message, "model") from error
    model.config.use_cache = False
    return model


def attention_for(model_type: str, precision: Precision) -> str:
    """Return the fastest attention that is right for the model; flash-attention computes in 16 bits only."""
    if model_type in _EAGER:
        return "eager"
    return "flash_attention_2" if precision != "fp32" and has_varlen_attention() else "sdpa"


def _adapter_parameters(model: Any, lora: LoraConfig, rank: int) -> int:
    head = model.get_output_embeddings()
    wanted = None if lora.target_modules == "all-linear" else tuple(lora.target_modules)
    total = 0
    for name, module in model.named_modules():
        if not isinstance(module, torch.nn.Linear) or module is head:
            continue
        if wanted is None or name.split(".")[-1] in wanted or name in wanted:
            total += rank * (module.in_features + module.out_features)
    return total


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
