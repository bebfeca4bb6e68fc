"""What a model folder must be before anything in it is opened: data, and nothing that runs.

A folder comes from a hub or from a tenant's volume. transformers would run Python files that a configuration names
(`auto_map`), and torch would unpickle weights. Both are never asked to, and a folder that needs it is refused at the
door, with a sentence, rather than at some depth of a library.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fettle_trainer import strict_json
from fettle_trainer.adapter.inspect import PICKLES, PROGRAMS
from fettle_trainer.errors import WrongInputError
from fettle_trainer.strict_json import StrictJsonError, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

CONFIG_NAME: Final = "config.json"
INDEX_NAME: Final = "model.safetensors.index.json"
_WEIGHTS: Final = ".safetensors"
_CODE_KEYS: Final = ("auto_map", "custom_pipelines")
_MAX_JSON_BYTES: Final = 64 * 2**20
_PARAM: Final = "model"


def require_safe_model_folder(folder: Path) -> None:
    """Raise WrongInputError unless the folder is a model of safetensors without code, whole beneath its root."""
    files = require_no_code(folder)
    if folder / CONFIG_NAME not in files:
        raise _wrong(
            "ModelMissing", f"{folder} has no {CONFIG_NAME}; name the folder that save_pretrained wrote."
        )
    _require_safetensors(folder, files)


def require_no_code(folder: Path) -> list[Path]:
    """Return the folder's files; raise WrongInputError if one of them runs, asks for code, or leads elsewhere."""
    if not folder.is_dir():
        raise _wrong("ModelMissing", f"{folder} is not a folder; name the folder that holds the model.")
    files = list(_files(folder))
    _refuse_programs(folder, files)
    for path in files:
        if path.parent == folder and path.suffix == ".json" and "config" in path.name:
            _refuse_code_keys(path)
    return files


def _files(folder: Path) -> Iterator[Path]:
    """Yield the regular files; whatever else lies there, or leads elsewhere, is refused."""
    root = _root(folder.resolve())
    for parent, folders, names in os.walk(folder):
        for name in sorted([*folders, *names]):
            path = Path(parent, name)
            _refuse_escape(path, root)
            mode = path.stat().st_mode
            if stat.S_ISREG(mode):
                yield path
            elif not stat.S_ISDIR(mode):
                raise _wrong("ModelUnsafe", f"{path} is no regular file. Copy the model without it.")


def _root(folder: Path) -> Path:
    """Return what links may point into: the folder itself, or its repository in the hub's own cache layout.

    There a snapshot is made of links to `blobs`, beside it in the repository's folder.
    """
    repository = folder.parent.parent
    is_snapshot = folder.parent.name == "snapshots" and repository.name.startswith("models--")
    return repository if is_snapshot else folder


def _refuse_escape(path: Path, root: Path) -> None:
    if not path.is_symlink():
        return
    try:
        target = path.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise _wrong("ModelUnsafe", f"{path} is a link to nowhere. Copy the model again.") from error
    if not target.is_relative_to(root):
        raise _wrong(
            "ModelUnsafe", f"{path} is a link that leads out of {root}. Copy the file itself into the folder."
        )


def _refuse_programs(folder: Path, files: list[Path]) -> None:
    for path in files:
        if path.suffix.lower() in PROGRAMS:
            name = path.relative_to(folder)
            raise _wrong(
                "ModelHoldsCode",
                f"{folder} holds {name}, and code from a model folder is never run. "
                "Remove it if the model works without; models that transformers itself knows do.",
            )


def _refuse_code_keys(path: Path) -> None:
    document = read_object(path)
    for key in _CODE_KEYS:
        if document.get(key):
            raise _wrong(
                "ModelHoldsCode",
                f"{path} asks for code of the model's author ({key}), which is never run. "
                "Remove the key if the model works without; models that transformers itself knows do.",
            )


def _require_safetensors(folder: Path, files: list[Path]) -> None:
    weights = {path.name for path in files if path.parent == folder and path.suffix == _WEIGHTS}
    if not weights:
        pickles = [path.name for path in files if path.parent == folder and path.suffix.lower() in PICKLES]
        found = f"; {pickles[0]} can hold code and is never opened" if pickles else ""
        raise _wrong(
            "ModelNotSafetensors",
            f"{folder} holds no weights as safetensors{found}. Convert the model with "
            "save_pretrained(folder, safe_serialization=True).",
        )
    if folder / INDEX_NAME in files:
        _check_index(folder / INDEX_NAME, weights)


def _check_index(path: Path, weights: set[str]) -> None:
    shards = read_object(path).get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise _wrong("ModelInvalid", f"{path} has no weight_map that names a file for each weight.")
    for name in sorted(set(shards.values()) - weights):
        raise _wrong(
            "ModelInvalid",
            f"{path} names {shown(name)}, which is no safetensors file of this folder. Copy the model again.",
        )


def read_object(path: Path) -> dict[str, Any]:
    """Return what a JSON file of the folder holds; raise WrongInputError unless it is an object."""
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise _wrong("ModelInvalid", f"{path} is larger than {_MAX_JSON_BYTES} bytes.")
        document = strict_json.loads(path.read_bytes())
    except OSError as error:
        raise _wrong("ModelInvalid", f"{path} cannot be read: {error.strerror}.") from error
    except StrictJsonError as error:
        raise _wrong("ModelInvalid", f"{path} is no JSON: {error}.") from error
    if not isinstance(document, dict):
        raise _wrong("ModelInvalid", f"{path} is not a JSON object.")
    return document


def _wrong(code: str, message: str) -> WrongInputError:
    return WrongInputError(code, message, _PARAM)
