"""The Helm values that make the chart use what was built."""

from __future__ import annotations

from typing import TYPE_CHECKING

from images.catalog import IMAGES

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "build/images.yaml"


def render(tags: Mapping[str, str]) -> str:
    """Return values that name the tag of every image the chart knows."""
    lines = [
        "# Written by `python3 -m images build`: the tags of the images made from this working tree.",
        "images:",
    ]
    for image in IMAGES:
        if image.in_chart:
            lines += [f"  {image.name}:", f'    tag: "{tags[image.name]}"']
    return "\n".join([*lines, ""])
