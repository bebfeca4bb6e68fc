"""The generated CRDs as files: names, text, and which of those in a folder are out of date."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from fettle_operator.api.base import Resource
from fettle_operator.crd.definition import custom_resource_definition

__all__ = ["files_of", "stale_files"]

_HEADER = "# Generated from the models in fettle_operator.api by `make crds`. Edit those instead.\n"


class _PlainDumper(yaml.SafeDumper):
    """Writes each value where it stands: structural schemas are inlined, anchors would only puzzle readers."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - the signature is PyYAML's
        return True


def files_of(kinds: Iterable[type[Resource]]) -> dict[str, str]:
    """Return file name to text for each kind; the same models always give the same bytes."""
    return {
        f"{kind.info.plural}.{kind.info.group}.yaml": _HEADER
        + yaml.dump(custom_resource_definition(kind), Dumper=_PlainDumper, sort_keys=False, width=110)
        for kind in kinds
    }


def stale_files(folder: Path, files: Mapping[str, str]) -> list[str]:
    """Return the names of the files that are missing, different, or not generated at all."""
    present = {path.name for path in folder.glob("*.yaml")} if folder.is_dir() else set()
    return sorted(
        name
        for name in present | files.keys()
        if name not in files
        or name not in present
        or (folder / name).read_text(encoding="utf-8") != files[name]
    )
