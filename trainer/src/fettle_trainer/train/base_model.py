"""The folder of the base model: one that is there, or a revision of a hub repository, fetched once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from fettle_trainer.errors import IncompleteError, WrongInputError
from fettle_trainer.safety import require_safe_model_folder

if TYPE_CHECKING:
    from fettle_trainer.config.run import HubModel, ModelConfig

_WANTED: Final = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "LICENSE*", "README.md")
"""Never pickles, never code."""
_UNFINISHED: Final = ".fetching"


def base_folder(model: ModelConfig, models: Path) -> Path:
    """Return the base model's folder; raise WrongInputError when there is none, or none that is safe to open."""
    folder = Path(str(model.path)) if model.hugging_face is None else _fetched(model.hugging_face, models)
    require_safe_model_folder(folder)
    return folder


def _fetched(wanted: HubModel, models: Path) -> Path:
    # The endpoint is read here, not when the client was imported; False keeps the machine's own token at home.
    hub = HfApi(token=_token(wanted), endpoint=os.environ.get("HF_ENDPOINT") or None)
    try:
        commit = str(hub.model_info(wanted.repo, revision=wanted.revision).sha)
        target = models / wanted.repo.replace("/", "--") / commit
        if not target.is_dir():
            _fetch(hub, wanted.repo, commit, target)
    except (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError) as error:
        message = (
            f"The hub shows no {wanted.repo} at revision {wanted.revision} to this token. "
            "Mend the names, or ask for access and name a token with it."
        )
        raise WrongInputError("ModelMissing", message, "model.huggingFace") from error
    except Exception as error:
        # The hub's client lets its HTTP library's errors through, and has changed that library before.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        message = f"{wanted.repo} could not be fetched from the hub: {reason}"
        raise IncompleteError("HubUnreachable", message, "model.huggingFace") from error
    return target


def _fetch(hub: HfApi, repository: str, commit: str, target: Path) -> None:
    unfinished = target.with_name(target.name + _UNFINISHED)
    hub.snapshot_download(repository, revision=commit, local_dir=unfinished, allow_patterns=list(_WANTED))
    # What the download keeps about itself is no part of the model.
    shutil.rmtree(unfinished / ".cache", ignore_errors=True)
    if not target.is_dir():  # another run of this store may have been faster
        unfinished.rename(target)


def _token(wanted: HubModel) -> str | bool:
    if wanted.token_file is None:
        return False
    try:
        return Path(wanted.token_file).read_text().strip()
    except OSError as error:
        message = f"model.huggingFace.tokenFile: {wanted.token_file} cannot be read: {error.strerror}."
        raise WrongInputError("TokenUnreadable", message, "model.huggingFace.tokenFile") from error
