"""Names an image by what it is made of, so that the same content is never built or sent twice."""

from __future__ import annotations

import hashlib
import tomllib
from typing import TYPE_CHECKING

from images import dockerfile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from images.catalog import Image

_DIGITS = 12


def tag(image: Image, root: Path, build_args: Mapping[str, str]) -> str:
    """Return `VERSION-DIGEST`: the digest covers the Dockerfile, its arguments and every file it copies."""
    text = (root / image.dockerfile).read_text()
    inputs = dockerfile.sources(text, image.name)
    parts = [("target", image.name), ("dockerfile", text)]
    parts += [(f"argument {name}", value) for name, value in sorted(build_args.items())]
    return f"{version(root)}-{digest(parts, files(root, inputs))}"


def version(root: Path) -> str:
    """Return the project's version."""
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return str(project["version"])


def digest(texts: Iterable[tuple[str, str]], contents: Iterable[tuple[str, bytes]]) -> str:
    """Return a short digest of named texts and files; each is preceded by its name and length."""
    total = hashlib.sha256()
    for name, content in [*((name, text.encode()) for name, text in texts), *contents]:
        total.update(f"{name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()[:_DIGITS]


def files(root: Path, inputs: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of every file below the inputs that a build would see."""
    for name in inputs:
        start = root / name
        found = sorted(start.rglob("*")) if start.is_dir() else [start]
        for file in found:
            # What .dockerignore keeps out of a build must not change its name either.
            if file.is_file() and "__pycache__" not in file.parts and file.suffix != ".pyc":
                yield str(file.relative_to(root)), file.read_bytes()
