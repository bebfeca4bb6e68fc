"""Which of PEFT's many LoRA settings this engine serves, and the plain configuration that it gives to PEFT.

An adapter's configuration comes from whoever made the adapter. Some settings would change the base model under all
other adapters, and some hold regular expressions, which PEFT would run; so known settings are copied, and unknown
ones refused where they are set.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from peft import LoraConfig

from fettle_server.engine.refusal import Reason, RefusedAdapterError
from fettle_trainer.strict_json import shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MERGE: Final = "Export it merged, and serve that as a model of its own."

_SERVED: Final = frozenset(
    {"alpha_pattern", "ensure_weight_tying", "fan_in_fan_out", "lora_alpha", "lora_bias", "modules_to_save"}
    | {"r", "rank_pattern", "use_dora", "use_rslora"}
)
_WITHOUT_EFFECT: Final = frozenset(
    {"auto_mapping", "base_model_name_or_path", "exclude_modules", "inference_mode", "init_lora_weights"}
    | {"layers_pattern", "layers_to_transform", "lora_dropout", "peft_type", "peft_version"}
    | {"revision", "runtime_config", "target_modules", "task_type"}
)
"""What matters in training only, and what the names of the tensors tell more exactly."""
_DEFAULTS: Final[Mapping[str, Any]] = LoraConfig().to_dict()
"""PEFT writes every setting it knows, most of them at these values."""
_PREFIX: Final = "base_model.model."
_TENSOR: Final = re.compile(r"(.+?)(?:\.base_layer)?\.lora_(?:embedding_)?[AB](?:\.weight)?")
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_.]+")


def served_config(document: Mapping[str, Any], tensors: Iterable[str]) -> LoraConfig:
    """Return the configuration to load the tensors with; raise RefusedAdapterError for what cannot be served."""
    if document.get("bias", "none") != "none":
        raise RefusedAdapterError(
            Reason.SETTING_UNSUPPORTED,
            f"The adapter trains biases of the base model (bias: {shown(str(document['bias']))}), which all adapters "
            f"share. {MERGE}",
        )
    others = document.keys() - _SERVED - _WITHOUT_EFFECT - {"bias"}
    used = sorted(name for name in others if document[name] and document[name] != _DEFAULTS.get(name))
    if used:
        raise RefusedAdapterError(
            Reason.SETTING_UNSUPPORTED,
            f"The adapter uses {', '.join(map(shown, used))}, which cannot be served beside other adapters. {MERGE}",
        )
    for name in ("rank_pattern", "alpha_pattern"):
        _require_plain_names(name, document.get(name) or {})
    settings = {name: document[name] for name in _SERVED if document.get(name) is not None}
    return LoraConfig(task_type="CAUSAL_LM", target_modules=adapted_modules(tensors), **settings)


def adapted_modules(tensors: Iterable[str]) -> list[str]:
    """Return the full names of the modules that the tensors belong to."""
    found = (_TENSOR.fullmatch(name.removeprefix(_PREFIX)) for name in tensors)
    return sorted({match.group(1) for match in found if match})


def _require_plain_names(setting: str, patterns: Mapping[str, Any]) -> None:
    for name in patterns:
        if not _PLAIN_NAME.fullmatch(name):
            raise RefusedAdapterError(
                Reason.SETTING_UNSUPPORTED,
                f"{setting} holds the expression {shown(name)}; only plain names of modules are served. {MERGE}",
            )
