"""The programs that build images: command lines as pure functions, and thin adapters that run them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from images.programs import ask, succeeds, work

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True)
class Recipe:
    """One build."""

    name: str
    """What it is called in progress lines."""
    dockerfile: str
    reference: str
    target: str | None = None
    build_args: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Path] = field(default_factory=dict)
    context: str = "."


class Builder(Protocol):
    """A program that builds, keeps and pushes images."""

    def discard_unfinished(self) -> None:
        """Remove what a killed build left behind; nobody else builds meanwhile."""

    def has(self, reference: str) -> bool:
        """Return whether the image is in this builder's storage."""

    def build(self, recipe: Recipe) -> float:
        """Build an image and return the seconds it took."""

    def push(self, reference: str, address: str) -> None:
        """Push an image to a registry that speaks plain HTTP."""

    def prune(self, repository: str, *, keep: int) -> None:
        """Remove all but the newest images of one name."""


class Buildah:
    """buildah alone, as root: no daemon, no container runtime, storage of its own in the cache."""

    def __init__(self, storage: Path) -> None:
        self._base = buildah(storage)

    def discard_unfinished(self) -> None:
        """Remove what a killed build left behind; nobody else builds meanwhile."""
        ask([*self._base, "rm", "--all"])

    def has(self, reference: str) -> bool:
        """Return whether the image is in this builder's storage."""
        return succeeds([*self._base, "inspect", "--type", "image", reference])

    def build(self, recipe: Recipe) -> float:
        """Build an image and return the seconds it took."""
        return work(f"build {recipe.name}", [*self._base, *buildah_build(recipe)])

    def push(self, reference: str, address: str) -> None:
        """Push an image to a registry that speaks plain HTTP."""
        work(f"push {short_name(reference)}", [*self._base, *buildah_push(reference, address)])

    def prune(self, repository: str, *, keep: int) -> None:
        """Remove all but the newest images of one name."""
        listed = json.loads(
            ask([*self._base, "images", "--json", "--filter", f"reference={repository}:*"]) or "[]"
        )
        for identity in outdated(listed, repository, keep):
            ask([*self._base, "rmi", identity])

    def prune_intermediate(self) -> None:
        """Remove what earlier builds left for reuse; the next build makes what it still needs again."""
        ask([*self._base, "rmi", "--prune", "--force"])


class Engine:
    """Docker or Podman."""

    def __init__(self, program: Literal["docker", "podman"]) -> None:
        self._program = program

    def discard_unfinished(self) -> None:
        """Leave it to the engine, which does so by itself."""

    def has(self, reference: str) -> bool:
        """Return whether the image is in this builder's storage."""
        return succeeds([self._program, "image", "inspect", reference])

    def build(self, recipe: Recipe) -> float:
        """Build an image and return the seconds it took."""
        # Only BuildKit knows secrets and cache keys by content; recent Docker uses it by default.
        return work(
            f"build {recipe.name}", ["env", "DOCKER_BUILDKIT=1", self._program, *engine_build(recipe)]
        )

    def push(self, reference: str, address: str) -> None:
        """Push an image to a registry that speaks plain HTTP."""
        target = pushed_name(reference, address)
        ask([self._program, "tag", reference, target])
        insecure = ["--tls-verify=false"] if self._program == "podman" else []
        try:
            work(f"push {short_name(reference)}", [self._program, "push", *insecure, target])
        finally:
            ask([self._program, "image", "rm", target])

    def prune(self, repository: str, *, keep: int) -> None:
        """Remove all but the newest images of one name."""
        listed = ask([self._program, "image", "ls", "--format", "{{.Tag}}", repository]).splitlines()
        # The engine lists the newest first.
        for tag in listed[keep:]:
            ask([self._program, "image", "rm", f"{repository}:{tag}"])


def buildah(storage: Path) -> list[str]:
    """Return buildah with storage of its own, so that nothing else on the machine meets it."""
    return [
        "buildah", "--storage-driver", "overlay", "--root", str(storage / "storage"), "--runroot", str(storage / "run"),
    ]  # fmt: skip


def buildah_build(recipe: Recipe) -> list[str]:
    """Return buildah's command for a build; chroot isolation needs no container runtime."""
    return ["build", "--layers", "--isolation", "chroot", "--network", "host", *_common(recipe)]


def buildah_push(reference: str, address: str) -> list[str]:
    """Return buildah's command for a push; zstd at its fastest, because gzip would take minutes for gigabytes."""
    compression = ["--compression-format", "zstd", "--compression-level", "1"]
    return [
        "push",
        "--tls-verify=false",
        *compression,
        reference,
        f"docker://{pushed_name(reference, address)}",
    ]


def engine_build(recipe: Recipe) -> list[str]:
    """Return Docker's or Podman's command for a build."""
    return ["build", "--network", "host", *_common(recipe)]


def pushed_name(reference: str, address: str) -> str:
    """Return an image's name in the registry at an address: the same path, another host."""
    return f"{address}/{reference.partition('/')[2]}"


def short_name(reference: str) -> str:
    """Return an image's name without registry and tag."""
    return reference.rpartition("/")[2].partition(":")[0]


def outdated(listed: list[dict[str, Any]], repository: str, keep: int) -> list[str]:
    """Return the names of all but the newest images of a repository."""
    named = [
        (image["createdatraw"], name)
        for image in listed
        for name in image.get("names") or []
        if name.startswith(f"{repository}:")
    ]
    return [name for _, name in sorted(named, reverse=True)[keep:]]


def _common(recipe: Recipe) -> list[str]:
    command = ["--file", recipe.dockerfile, "--tag", recipe.reference]
    if recipe.target is not None:
        command += ["--target", recipe.target]
    for name, value in sorted(recipe.build_args.items()):
        command += ["--build-arg", f"{name}={value}"]
    for name, file in sorted(recipe.secrets.items()):
        command += ["--secret", f"id={name},src={file}"]
    return [*command, recipe.context]
