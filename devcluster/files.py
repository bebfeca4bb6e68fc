"""Writing the configuration files of a cluster's programs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write(path: Path, text: str) -> None:
    """Give a file a content in one step; one that has it already is not touched.

    kube-proxy ends when its file is as much as written anew, and would do so behind the back of an `up` that has
    found it running.
    """
    if path.exists() and path.read_text() == text:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.write_text(text)
    unfinished.rename(path)
