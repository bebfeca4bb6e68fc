"""What an image is made of is read from its Dockerfile, so nobody keeps a second list."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from images import dockerfile
from images.catalog import IMAGES, Image

ROOT = Path(__file__).resolve().parents[2]

SAMPLE = """\
# FROM nothing AS comment
ARG BASE_IMAGE=debian
FROM ${BASE_IMAGE} AS base
FROM base AS tools
COPY locks/build.txt /opt/
FROM base AS unused
COPY never /opt/
FROM tools AS mounted
COPY a b/c \\
     /opt/
FROM base AS product
RUN --mount=type=bind,from=mounted,source=/opt,target=/opt \\
    true
COPY --from=tools /opt /opt
COPY code /opt/code
"""


def test_copies_of_every_stage_that_the_target_stands_on_count_and_no_others() -> None:
    assert dockerfile.sources(SAMPLE, "product") == ["a", "b/c", "code", "locks/build.txt"]
    assert dockerfile.sources(SAMPLE, "tools") == ["locks/build.txt"]


def test_an_unknown_target_is_named() -> None:
    with pytest.raises(ValueError, match="no stage 'nothing'"):
        dockerfile.sources(SAMPLE, "nothing")


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_every_source_of_an_image_exists_and_passes_the_dockerignore(image: Image) -> None:
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in dockerfile.sources((ROOT / image.dockerfile).read_text(), image.name):
        assert (ROOT / source).exists(), source
        assert any(source.startswith(f"{folder}/") for folder in allowed), source


@pytest.mark.parametrize(
    ("image", "packages"),
    [
        ("operator", {"fettle_operator", "fettle_trainer"}),
        ("trainer", {"fettle_trainer"}),
        ("server", {"fettle_server", "fettle_trainer"}),
        ("router", {"fettle_router"}),
    ],
)
def test_an_image_holds_the_packages_of_its_part_only(image: str, packages: set[str]) -> None:
    file = next(entry.dockerfile for entry in IMAGES if entry.name == image)
    sources = dockerfile.sources((ROOT / file).read_text(), image)
    assert {source.split("/")[2] for source in sources if "/src/" in source} == packages


def test_what_the_servers_image_holds_of_the_trainer_needs_nothing_else_of_it(tmp_path: Path) -> None:
    text = (ROOT / "Dockerfile.trainer").read_text()
    taken = [source for source in dockerfile.sources(text, "server") if source.startswith("trainer/")]
    for source in taken:
        path = tmp_path / source.removeprefix("trainer/src/")
        path.parent.mkdir(exist_ok=True)
        (shutil.copytree if (ROOT / source).is_dir() else shutil.copy)(ROOT / source, path)
    used = {
        name
        for file in (ROOT / "server/src").rglob("*.py")
        for name in re.findall(r"^(?:from|import) (fettle_trainer[\w.]*)", file.read_text(), re.MULTILINE)
    }
    assert "fettle_trainer.adapter.verify" in used
    script = (
        "import importlib, pkgutil, sys, fettle_trainer\n"
        "found = pkgutil.walk_packages(fettle_trainer.__path__, 'fettle_trainer.')\n"
        "for name in [*sys.argv[1:], *(module.name for module in found)]:\n"
        "    importlib.import_module(name)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    subprocess.run([sys.executable, "-c", script, *used], env=environment, check=True)


def test_the_stages_that_the_dockerfiles_share_are_word_for_word_the_same() -> None:
    # Equal instructions are built once and their layers stored once.
    shared = {
        text[text.index("ARG BASE_IMAGE") : text.index("FROM", text.index("AS tools"))]
        for text in ((ROOT / image.dockerfile).read_text() for image in IMAGES)
    }
    assert len(shared) == 1


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_code_is_the_last_layer_and_the_user_has_no_privileges(image: Image) -> None:
    stage = (ROOT / image.dockerfile).read_text().split(f" AS {image.name}\n")[1].split("\nFROM ")[0]
    instructions = [line for line in stage.splitlines() if line and line.split()[0].isupper()]
    assert instructions[-1].endswith("/opt/fettle /opt/fettle")
    assert "USER 10001:10001" in instructions
