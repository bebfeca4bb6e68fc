"""What the check wants to know of a model on the hub: tokenizer, configuration, shapes of the weights; no weight."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

from huggingface_hub.errors import NotASafetensorsRepoError, SafetensorsParsingError

from fettle_trainer.safety import CONFIG_NAME
from fettle_trainer.text.tokenizer import TOKENIZER_FILES
from fettle_trainer.train.base_model import hub_client, hub_sentences

if TYPE_CHECKING:
    from collections.abc import Iterator

    from huggingface_hub import HfApi

    from fettle_trainer.config.run import HubModel

Shapes = dict[str, tuple[int, ...]]
_ONE_FILE: Final = "model.safetensors"
_SHARD: Final = "model-"


@dataclass(frozen=True)
class Preview:
    """A model without its weights."""

    folder: Path
    """Tokenizer and configuration; it is gone when the preview is over."""
    shapes: Shapes
    """Of every weight, by name; none where the headers cannot be read."""


@contextmanager
def previewed(wanted: HubModel) -> Iterator[Preview]:
    """Lend the preview of a model on the hub; raise WrongInputError or IncompleteError when it cannot be had."""
    hub = hub_client(wanted)
    with TemporaryDirectory(prefix="fettle-preview-") as name:
        folder = Path(name)
        with hub_sentences(wanted):
            found = hub.model_info(wanted.repo, revision=wanted.revision)
            commit = str(found.sha)
            files = [*TOKENIZER_FILES, CONFIG_NAME]
            hub.snapshot_download(wanted.repo, revision=commit, local_dir=folder, allow_patterns=files)
            shapes = _shapes(hub, wanted.repo, commit, [file.rfilename for file in found.siblings or ()])
        shutil.rmtree(folder / ".cache", ignore_errors=True)
        yield Preview(folder, shapes)


def _shapes(hub: HfApi, repository: str, commit: str, files: list[str]) -> Shapes:
    """Read the headers of the files that transformers would load, by requests for their first bytes."""
    shards = [name for name in files if name.startswith(_SHARD) and name.endswith(".safetensors")]
    try:
        headers = [
            hub.parse_safetensors_file_metadata(repository, name, revision=commit)
            for name in ([_ONE_FILE] if _ONE_FILE in files else shards)
        ]
    except (NotASafetensorsRepoError, SafetensorsParsingError):
        return {}
    return {name: tuple(tensor.shape) for header in headers for name, tensor in header.tensors.items()}
