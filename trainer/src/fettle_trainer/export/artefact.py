"""Writing the files of an artefact: weights, tokenizer, chat template."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any, Final

from fettle_trainer import strict_json
from fettle_trainer.adapter.inspect import TEMPLATE_NAME
from fettle_trainer.adapter.peft_config import CONFIG_NAME
from fettle_trainer.text.template import chat_template
from fettle_trainer.text.tokenizer import TOKENIZER_FILES

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

_SHARD_SIZE: Final = "5GB"
_SETS: Final = ("target_modules", "exclude_modules", "modules_to_save")


def write_adapter(
    model: Any, folder: Path, base: tuple[str, str | None], initial: Path | None = None
) -> None:
    """Save a PEFT model's adapter; `base` is the name of the model it is for, and the revision if it has one.

    PiSSA and OLoRA have taken part of the base model into the adapter; `initial`, the adapter as it was before the
    first step, lets PEFT write what was learned as a plain LoRA adapter of twice the rank, for the base as it is.
    """
    config = model.peft_config["default"]
    named = (config.base_model_name_or_path, config.revision)
    config.base_model_name_or_path, config.revision = base
    try:
        model.save_pretrained(
            str(folder),
            # Embeddings are never resized here, and "auto" would ask the hub what the base looks like.
            save_embedding_layers=False,
            path_initial_model_for_weight_conversion=None if initial is None else str(initial),
        )
    finally:
        config.base_model_name_or_path, config.revision = named
    _order_sets(folder / CONFIG_NAME)


def write_model(model: Any, folder: Path) -> None:
    """Save a whole model in shards of safetensors, in the precision that it has."""
    model.config.use_cache = True  # switched off for training only
    model.save_pretrained(str(folder), max_shard_size=_SHARD_SIZE)


def write_companions(base: Path, tokenizer: PreTrainedTokenizerBase, folder: Path) -> str | None:
    """Add the tokenizer as the base has it, byte for byte, and the chat template; return the template's digest."""
    for name in TOKENIZER_FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)
    template = chat_template(tokenizer)
    if template is None:
        return None
    # Some models keep it inside tokenizer_config.json; serving reads this file and compares its digest.
    (folder / TEMPLATE_NAME).write_bytes(template.text.encode())
    return template.digest


def _order_sets(path: Path) -> None:
    """Write the configuration's sets in order: PEFT writes them in another one each time, and the digest with them."""
    document = strict_json.loads(path.read_bytes())
    for name in _SETS:
        if isinstance(document.get(name), list):
            document[name] = sorted(document[name])
    path.write_text(json.dumps(document, indent=2, sort_keys=True))
