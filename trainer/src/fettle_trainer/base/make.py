"""Making the base model, or finding the one that an equal recipe made before."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fettle_trainer.base.card import card
from fettle_trainer.base.corpus import conversations
from fettle_trainer.base.pretrain import pretrain
from fettle_trainer.base.tokenizer import train_tokenizer
from fettle_trainer.durable.checkpoints import flush
from fettle_trainer.errors import WrongInputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fettle_trainer.base.recipe import Recipe

_TOKENIZER_TEXTS = 4096


def make_base(recipe: Recipe, cache: Path, on_step: Callable[[int, float], None]) -> Path:
    """Return the folder `<cache>/<recipe's key>`, made now if it is not there."""
    folder = cache / recipe.key
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with _published(folder) as scratch:
            _make(recipe, scratch, on_step)
    return folder


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return where made models are kept: beside everything else that Fettle caches."""
    named = environment.get("FETTLE_CACHE")
    shared = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(named) if named else Path(shared) / "fettle") / "bases"


def copy_to(folder: Path, output: Path) -> None:
    """Put a made model where it is wanted; what stands there already must be the same model."""
    if output.exists():
        if _contents(output) != _contents(folder):
            msg = f"{output} exists and holds something else; remove it or name another folder."
            raise WrongInputError("OutputExists", msg, "--output")
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    with _published(output) as scratch:
        shutil.copytree(folder, scratch, dirs_exist_ok=True)


def _make(recipe: Recipe, folder: Path, on_step: Callable[[int, float], None]) -> None:
    texts = itertools.chain.from_iterable(conversations(recipe.seed, _TOKENIZER_TEXTS))
    tokenizer = train_tokenizer(texts, recipe.vocabulary, recipe.max_positions)
    losses = [0.0]

    def remembered(step: int, loss: float) -> None:
        losses[0] = loss
        on_step(step, loss)

    threads = torch.get_num_threads()
    torch.set_num_threads(recipe.threads)
    try:
        model = pretrain(recipe, tokenizer, remembered)
    finally:
        torch.set_num_threads(threads)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text(card(recipe, model.num_parameters(), losses[0]))


@contextmanager
def _published(folder: Path) -> Iterator[Path]:
    """Give a scratch folder, and give it this name once it is filled; an equal one made meanwhile stays."""
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield scratch
        _open_to_readers(scratch)
        flush(scratch)
        try:
            scratch.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _open_to_readers(folder: Path) -> None:
    """Let other users read the model; scratch folders and safetensors files are their maker's alone."""
    folder.chmod(0o755)
    for path in folder.iterdir():
        path.chmod(0o644)


def _contents(folder: Path) -> dict[str, str] | None:
    if not folder.is_dir():
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
