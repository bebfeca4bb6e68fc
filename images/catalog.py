"""Which images there are. Pure data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from images.errors import ImagesError

if TYPE_CHECKING:
    from collections.abc import Sequence

REGISTRY = "registry.fettle.dev"
"""The registry in the images' names; every cluster of this repository maps it to a local one."""


@dataclass(frozen=True)
class Image:
    """One image: a target of a Dockerfile."""

    name: str
    dockerfile: str
    in_chart: bool
    """The chart has a value for its tag."""

    @property
    def repository(self) -> str:
        """Its name without a tag."""
        return f"{REGISTRY}/{self.name}"


# The small ones first: the cluster can start with them while the model stack is still being made.
IMAGES = (
    Image("operator", "Dockerfile.operator", in_chart=True),
    Image("router", "Dockerfile.router", in_chart=False),
    Image("server", "Dockerfile.trainer", in_chart=True),
    Image("trainer", "Dockerfile.trainer", in_chart=True),
)


def select(names: Sequence[str]) -> list[Image]:
    """Return the named images, all if none is named, in the order of the catalog."""
    known = [image.name for image in IMAGES]
    for name in names:
        if name not in known:
            raise ImagesError(f"there is no image {name!r}; there are {', '.join(known)}")
    return [image for image in IMAGES if not names or image.name in names]
