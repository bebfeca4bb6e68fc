"""Which files of a dataset repository are meant: by its own description, else by the words in their names."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

import yaml

from fettle_trainer.data.files import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_DESCRIPTIONS: Final = frozenset({"dataset_infos.json", "dataset_dict.json", "state.json", "config.json"})
"""Files of known kinds that hold no rows."""
_WORDS: Final = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval"),
}
_FRONT_MATTER: Final = re.compile(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", re.DOTALL)


def chosen_files(names: Iterable[str], readme: str, subset: str | None, split: str) -> list[str]:
    """Return the data files of a subset's split, sorted; none when nothing fits."""
    data = sorted(
        name for name in names if kind_of(name)[0] and PurePosixPath(name).name not in _DESCRIPTIONS
    )
    patterns = _described(readme, subset, split)
    if patterns is not None:
        return [name for name in data if any(_matches(name, pattern) for pattern in patterns)]
    if subset is not None:
        data = [name for name in data if _is_of_subset(name, subset)]
    of_split = [name for name in data if _has_word(name, _WORDS.get(split, (split,)))]
    if of_split or split != "train":
        return of_split
    # Without any word for a split everything is there to be trained on.
    others = [word for words in _WORDS.values() for word in words]
    return [name for name in data if not _has_word(name, others)]


def _described(readme: str, subset: str | None, split: str) -> list[str] | None:
    """Read `configs` of the card's front matter, the way the hub itself finds a dataset's files."""
    found = _FRONT_MATTER.match(readme)
    if found is None:
        return None
    try:
        card = yaml.safe_load(found[1])
    except yaml.YAMLError:
        return None
    configs = card.get("configs") if isinstance(card, dict) else None
    if not isinstance(configs, list):
        return None
    for config in configs:
        if isinstance(config, dict) and _is_meant(config, subset, alone=len(configs) == 1):
            return _patterns(config.get("data_files"), split)
    return None


def _is_meant(config: dict[str, Any], subset: str | None, *, alone: bool) -> bool:
    name = config.get("config_name", "default")
    if subset is not None:
        return bool(name == subset)
    return alone or name == "default" or config.get("default") is True


def _patterns(data_files: object, split: str) -> list[str] | None:
    """Return the patterns of a split; those without a split are for training."""
    entries = data_files if isinstance(data_files, list) else [data_files]
    patterns: list[str] = []
    for entry in entries:
        path = entry.get("path") if isinstance(entry, dict) else entry
        if (entry.get("split", "train") if isinstance(entry, dict) else "train") == split:
            patterns += [
                part for part in (path if isinstance(path, list) else [path]) if isinstance(part, str)
            ]
    return patterns or None


def _matches(name: str, pattern: str) -> bool:
    # A star of the hub's patterns does not cross a folder; two do.
    if "**" in pattern:
        return fnmatchcase(name, pattern.replace("**/", "*").replace("**", "*"))
    return name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)


def _is_of_subset(name: str, subset: str) -> bool:
    path = PurePosixPath(name)
    return subset in path.parts[:-1] or path.name.startswith((f"{subset}.", f"{subset}-", f"{subset}_"))


def _has_word(name: str, words: Sequence[str]) -> bool:
    return not set(re.split(r"[/._-]", name.lower())).isdisjoint(word.lower() for word in words)
