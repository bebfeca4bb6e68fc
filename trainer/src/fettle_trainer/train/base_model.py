"""The folder of the base model: one that is there, or a revision of a hub repository, fetched once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from fettle_trainer.errors import IncompleteError, WrongInputError

if TYPE_CHECKING:
    from fettle_trainer.config.run import HubModel, ModelConfig

_WANTED: Final = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "LICENSE*", "README.md")
"""Never pickles, never code."""
_UNFINISHED: Final = ".fetching"


def base_folder(model: ModelConfig, models: Path) -> Path:
    """Return the base model's folder; raise WrongInputError when there is none."""
    if model.hugging_face is not None:
        return _fetched(model.hugging_face, models)
    folder = Path(str(model.path))
    if not (folder / "config.json").is_file():
        what = "has no config.json" if folder.is_dir() else "is no folder"
        message = f"model.path: {folder} {what}. It must be a model as transformers saves one."
        raise WrongInputError("ModelMissing", message, "model.path")
    return folder


def _fetched(wanted: HubModel, models: Path) -> Path:
    token = _token(wanted)
    try:
        commit = HfApi(token=token).model_info(wanted.repo, revision=wanted.revision).sha
        target = models / wanted.repo.replace("/", "--") / str(commit)
        if target.is_dir():
            return target
        unfinished = target.with_name(target.name + _UNFINISHED)
        snapshot_download(
            wanted.repo, revision=commit, token=token, local_dir=unfinished, allow_patterns=list(_WANTED)
        )
    except (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError) as error:
        message = f"The hub has no {wanted.repo} at revision {wanted.revision} for this token, or access must be asked for."
        raise WrongInputError("ModelMissing", message, "model.huggingFace") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        message = f"{wanted.repo} could not be fetched from the hub: {str(error).splitlines()[0][:200]}"
        raise IncompleteError("HubUnreachable", message, "model.huggingFace") from error
    # What the download keeps about itself is no part of the model.
    shutil.rmtree(unfinished / ".cache", ignore_errors=True)
    if not target.is_dir():  # another run of this store may have been faster
        unfinished.rename(target)
    return target


def _token(wanted: HubModel) -> str | bool:
    if wanted.token_file is None:
        return False
    try:
        return Path(wanted.token_file).read_text().strip()
    except OSError as error:
        message = f"model.huggingFace.tokenFile: {wanted.token_file} cannot be read: {error.strerror}."
        raise WrongInputError("TokenUnreadable", message, "model.huggingFace.tokenFile") from error
