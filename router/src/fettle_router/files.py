"""The files that HAProxy reads when it starts, always those of what is in force now."""

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Final

from fettle_router.layout import Layout
from fettle_router.render import Rendered

__all__ = ["candidate_of", "write", "write_atomically"]

_PRIVATE: Final = 0o600


def candidate_of(layout: Layout) -> Layout:
    """Return the same surroundings with a folder of their own, where a configuration can be tried out."""
    return replace(layout, directory=layout.directory / "candidate")


def write(rendered: Rendered, layout: Layout) -> None:
    """Write configuration and maps; files that are already right stay as they are."""
    layout.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, entries in rendered.maps.items():
        text = "".join(f"{key} {value}\n" for key, value in entries.items())
        write_atomically(layout.map_file(name), text)
    write_atomically(layout.configuration, rendered.configuration)


def write_atomically(path: Path, text: str) -> None:
    """Replace a file in one step, so that a crash leaves the old one or the new one."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_text(encoding="utf-8") == text:
            return
    unfinished = path.with_name(f"{path.name}.new")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _PRIVATE)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.rename(path)
