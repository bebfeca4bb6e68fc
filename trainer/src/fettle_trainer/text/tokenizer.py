"""The tokenizer of a model folder: local files only, and never code from it."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from fettle_trainer.errors import WrongInputError
from fettle_trainer.safety import CONFIG_NAME, read_object, require_no_code

if TYPE_CHECKING:
    from pathlib import Path

    from transformers import PreTrainedTokenizerBase

TOKENIZER_FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
)
"""The files that decide which tokens a text becomes."""

_VOCABULARIES: Final = ("tokenizer.json", "tokenizer.model", "vocab.json")
_POSITIONS: Final = ("max_position_embeddings", "n_positions", "max_seq_len")
_PARAM: Final = "model.path"


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the folder's tokenizer, ready for exact work: no truncation and no padding of its own."""
    require_no_code(folder)
    if not has_tokenizer(folder):
        msg = f"{folder} holds no tokenizer: one of {', '.join(_VOCABULARIES)} is missing. Save the tokenizer beside the model."
        raise WrongInputError("TokenizerMissing", msg, _PARAM)
    # Imported here: the check of a dataset without a model needs no model library.
    from transformers import AutoTokenizer  # noqa: PLC0415

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        # The Rust parser raises bare Exceptions, transformers nearly every kind there is.
        reason = str(error).strip().split("\n")[0][:300]
        msg = f"The tokenizer in {folder} cannot be loaded: {reason}"
        raise WrongInputError("TokenizerInvalid", msg, _PARAM) from error
    if not tokenizer.is_fast:
        msg = f"The tokenizer in {folder} has no fast form (tokenizer.json), which tells where in the text a token stands."
        raise WrongInputError("TokenizerInvalid", msg, _PARAM)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def has_tokenizer(folder: Path) -> bool:
    """Say whether a tokenizer lies in the folder."""
    return any((folder / name).is_file() for name in _VOCABULARIES)


def tokenizer_digest(folder: Path) -> str:
    """Return the digest over all files that decide which tokens a text becomes."""
    digest = hashlib.sha256()
    for name in TOKENIZER_FILES:
        path = folder / name
        if path.is_file():
            digest.update(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {name}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def most_positions(folder: Path) -> int | None:
    """Return how many tokens the model can hold, if its config.json says so."""
    path = folder / CONFIG_NAME
    config = read_object(path) if path.is_file() else {}
    inner = config.get("text_config")
    candidates = [config, inner] if isinstance(inner, dict) else [config]
    found = [part[name] for part in candidates for name in _POSITIONS if isinstance(part.get(name), int)]
    return next((number for number in found if number > 0), None)
