"""One build run: choose, build what is missing, push what the registry lacks, clean up."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from images import base, content, host, packages, registry, values
from images.builder import Buildah, Engine, Recipe
from images.catalog import IMAGES
from images.errors import ImagesError
from images.programs import REPOSITORY, ask, say

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from clusters.choice import Choice
    from images.builder import Builder
    from images.catalog import Image

_KEPT_PER_NAME = 2
# The images of one working tree need 7 GB; above the limit, a second model stack and what earlier builds left go.
_STORAGE_LIMIT_GB = 10
# Measuring the storage takes seconds; only a build this long can have added gigabytes.
_LONG_BUILD_S = 60
_REGISTRY_HEAD_START_S = 5


@dataclass(frozen=True)
class Workshop:
    """Where and with what images are built on this machine."""

    builder: Builder
    base: str
    folder: Path
    """Its own corner of the cache."""

    def build_args(self, image: Image) -> dict[str, str]:
        """Return the build arguments of an image; they are part of its name."""
        arguments = {"BASE_IMAGE": self.base}
        torch_index = os.environ.get("FETTLE_TORCH_INDEX")
        if torch_index and "ARG TORCH_INDEX" in (REPOSITORY / image.dockerfile).read_text():
            arguments["TORCH_INDEX"] = torch_index
        return arguments

    def reference(self, image: Image) -> str:
        """Return the full name of an image made from this working tree."""
        return f"{image.repository}:{content.tag(image, REPOSITORY, self.build_args(image))}"


def open_workshop(choice: Choice, cache: Path) -> Workshop:
    """Return what builds images for the chosen cluster."""
    folder = cache / "images"
    folder.mkdir(parents=True, exist_ok=True)
    if choice.engine is not None:
        engine = Engine(choice.engine)
        return Workshop(engine, base.choose(engine, embedded=False), folder)
    packages.install(packages.BUILDER)
    buildah = Buildah(folder)
    return Workshop(buildah, base.choose(buildah, embedded=True), folder)


def make_base(workshop: Workshop) -> None:
    """Make the base image, where one has to be made."""
    if workshop.base == base.own_name():
        base.ensure_own(workshop.builder, host.look(), workshop.folder)


def build(workshop: Workshop, images: Sequence[Image], *, push: bool) -> list[str]:
    """Build what is not there yet, push what the registry lacks, and return the images' full names."""
    with _PendingRegistry() if push else _no_registry() as pending, _alone(workshop.folder):
        # All names are taken before anything is built: the working tree may change meanwhile.
        references = {image.name: workshop.reference(image) for image in IMAGES}
        # While a registry is still being built or started, building goes on; only pushing waits for it.
        address = pending.address(_REGISTRY_HEAD_START_S) if pending else None
        absent = [
            image for image in images if address is None or not registry.has(references[image.name], address)
        ]
        for image in images:
            if image not in absent:
                say(f"{image.name}: {references[image.name]} is in the registry already")
        longest = _build_missing(workshop, absent, references)
        if pending:
            _push_missing(workshop, absent, references, pending.address())
        _write_values(references)
        _clean_up(workshop, absent, measure=longest > _LONG_BUILD_S)
        return [references[image.name] for image in images]


def _build_missing(workshop: Workshop, images: Sequence[Image], references: Mapping[str, str]) -> float:
    wanted = [image for image in images if not workshop.builder.has(references[image.name])]
    if not wanted:
        return 0
    workshop.builder.discard_unfinished()
    make_base(workshop)
    longest = 0.0
    with tempfile.TemporaryDirectory(dir=workshop.folder) as folder:
        secrets = host.write_secrets(host.secrets(host.look()), Path(folder))
        for image in wanted:
            arguments = workshop.build_args(image)
            recipe = Recipe(
                image.name, image.dockerfile, references[image.name], image.name, arguments, secrets
            )
            longest = max(longest, workshop.builder.build(recipe))
    return longest


def _push_missing(
    workshop: Workshop, images: Sequence[Image], references: Mapping[str, str], address: str | None
) -> None:
    if address is None:
        raise ImagesError("the registry did not say its address; `python3 -m clusters registry` tells why")
    for image in images:
        if not registry.has(references[image.name], address):
            workshop.builder.push(references[image.name], address)
            say(f"{image.name}: {references[image.name]} is in the registry")


def _write_values(references: Mapping[str, str]) -> None:
    file = REPOSITORY / values.FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}")
    fresh.write_text(
        values.render({name: reference.rpartition(":")[2] for name, reference in references.items()})
    )
    fresh.replace(file)


def _clean_up(workshop: Workshop, images: Sequence[Image], *, measure: bool) -> None:
    for image in images:
        workshop.builder.prune(image.repository, keep=_KEPT_PER_NAME)
    if measure and isinstance(workshop.builder, Buildah) and _size_gb(workshop.folder) > _STORAGE_LIMIT_GB:
        say(f"the storage exceeds {_STORAGE_LIMIT_GB} GB: keeping the newest image of each name only")
        for image in IMAGES:
            workshop.builder.prune(image.repository, keep=1)
        workshop.builder.prune_intermediate()


def _size_gb(folder: Path) -> float:
    return int(ask(["du", "-s", "--block-size=1M", folder]).split()[0]) / 1000


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build is running; waiting for it")
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


@contextmanager
def _no_registry() -> Iterator[None]:
    yield None


class _PendingRegistry:
    """The registry of the chosen cluster, started by its own command beside the build."""

    def __init__(self) -> None:
        self._address: str | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "clusters", "registry"], stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
        )
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.terminate()
            self._process.communicate()

    def address(self, timeout_s: float | None = None) -> str | None:
        """Return the address to push to; None if the registry is not there within the time."""
        if self._address is None:
            try:
                said, _ = self._process.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                return None
            if self._process.returncode != 0:
                raise ImagesError("the registry could not be started; the reason is above")
            self._address = said.strip()
        return self._address
