"""The folder of the base model: one that is there, or a revision of a hub repository, fetched once."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

from fettle_trainer import strict_json
from fettle_trainer.atomic import alone, write_atomically
from fettle_trainer.durable.failures import is_storage_full, storage_full
from fettle_trainer.errors import IncompleteError, WrongInputError
from fettle_trainer.safety import require_safe_model_folder
from fettle_trainer.strict_json import StrictJsonError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fettle_trainer.config.run import HubModel, ModelConfig

_WANTED: Final = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "LICENSE*", "README.md")
"""Never pickles, never code."""
_UNFINISHED: Final = ".fetching"


def base_folder(model: ModelConfig, models: Path, memory: Path) -> Path:
    """Return the base model's folder; raise WrongInputError when there is none, or none that is safe to open.

    `memory` is a file that keeps which commit a run has begun with: its later phases and attempts ask the hub nothing,
    and a branch that moves on moves nobody.
    """
    if model.hugging_face is None:
        folder = Path(str(model.path))
    else:
        folder = _remembered(model.hugging_face, models, memory) or _fetched(model.hugging_face, models)
        _remember(model.hugging_face, folder, memory)
    require_safe_model_folder(folder)
    return folder


def fetched_folder(model: ModelConfig, models: Path, memory: Path) -> Path | None:
    """Return the folder of a model that is here already; None when it would have to be fetched."""
    if model.hugging_face is None:
        return Path(str(model.path))
    return _remembered(model.hugging_face, models, memory)


def _remembered(wanted: HubModel, models: Path, memory: Path) -> Path | None:
    try:
        known = strict_json.loads(memory.read_bytes())
        folder = models / str(known["folder"])
    except (OSError, StrictJsonError, KeyError, TypeError):
        return None
    same = (known.get("repo"), known.get("revision")) == (wanted.repo, wanted.revision)
    return folder if same and folder.is_dir() else None


def _remember(wanted: HubModel, folder: Path, memory: Path) -> None:
    known = {
        "repo": wanted.repo,
        "revision": wanted.revision,
        "folder": f"{folder.parent.name}/{folder.name}",
    }
    memory.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(memory, json.dumps(known).encode())


def hub_client(wanted: HubModel) -> HfApi:
    """Return a client that shows the model's own token, or none."""
    # The endpoint is read here, not when the client was imported; False keeps the machine's own token at home.
    return HfApi(token=_token(wanted), endpoint=os.environ.get("HF_ENDPOINT") or None)


@contextmanager
def hub_sentences(wanted: HubModel) -> Iterator[None]:
    """Say in a sentence what the hub refused, or that it could not be asked."""
    try:
        yield
    except (RepositoryNotFoundError, RevisionNotFoundError, GatedRepoError) as error:
        message = (
            f"The hub shows no {wanted.repo} at revision {wanted.revision} to this token. "
            "Mend the names, or ask for access and name a token with it."
        )
        raise WrongInputError("ModelMissing", message, "model.huggingFace") from error
    except Exception as error:
        # The hub's client lets its HTTP library's errors through, and has changed that library before.
        if is_storage_full(error):
            raise storage_full(error) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        message = f"{wanted.repo} could not be fetched from the hub: {reason}"
        raise IncompleteError("HubUnreachable", message, "model.huggingFace") from error


def _fetched(wanted: HubModel, models: Path) -> Path:
    hub = hub_client(wanted)
    with hub_sentences(wanted):
        commit = str(hub.model_info(wanted.repo, revision=wanted.revision).sha)
        target = models / wanted.repo.replace("/", "--") / commit
        if not target.is_dir():
            with alone(target.with_name(f".{commit}.lock")):
                _fetch(hub, wanted.repo, commit, target)
    return target


def _fetch(hub: HfApi, repository: str, commit: str, target: Path) -> None:
    if target.is_dir():  # another run of this store was faster
        return
    unfinished = target.with_name(target.name + _UNFINISHED)
    hub.snapshot_download(repository, revision=commit, local_dir=unfinished, allow_patterns=list(_WANTED))
    # What the download keeps about itself is no part of the model.
    shutil.rmtree(unfinished / ".cache", ignore_errors=True)
    if not target.is_dir():  # on a file system without locks
        unfinished.rename(target)


def _token(wanted: HubModel) -> str | bool:
    if wanted.token_file is None:
        return False
    try:
        return Path(wanted.token_file).read_text().strip()
    except OSError as error:
        message = f"model.huggingFace.tokenFile: {wanted.token_file} cannot be read: {error.strerror}."
        raise WrongInputError("TokenUnreadable", message, "model.huggingFace.tokenFile") from error
