"""The command lines of the builders, and what they throw away."""

from pathlib import Path

import pytest

from images import builder
from images.builder import Recipe
from images.catalog import select
from images.errors import ImagesError

REFERENCE = "registry.fettle.dev/trainer:0.1.0-abc"
RECIPE = Recipe(
    "trainer",
    "Dockerfile.trainer",
    REFERENCE,
    target="trainer",
    build_args={"BASE_IMAGE": "localhost/base:1"},
    secrets={"pip": Path("/x/pip"), "ca": Path("/x/ca")},
)
COMMON = (
    "--file Dockerfile.trainer --tag registry.fettle.dev/trainer:0.1.0-abc --target trainer "
    "--build-arg BASE_IMAGE=localhost/base:1 --secret id=ca,src=/x/ca --secret id=pip,src=/x/pip ."
)


def test_buildah_builds_without_a_container_runtime_in_storage_of_its_own() -> None:
    words = [*builder.buildah(Path("/cache/images")), *builder.buildah_build(RECIPE)]
    assert " ".join(words) == (
        "buildah --storage-driver overlay --root /cache/images/storage --runroot /cache/images/run "
        f"build --layers --isolation chroot --network host {COMMON}"
    )


def test_an_engine_gets_the_same_recipe() -> None:
    assert " ".join(builder.engine_build(RECIPE)) == f"build --network host {COMMON}"


def test_nothing_of_the_machine_is_a_build_argument() -> None:
    # Arguments end up in an image's history; secrets do not.
    words = builder.buildah_build(RECIPE)
    arguments = [words[index + 1] for index, word in enumerate(words) if word == "--build-arg"]
    assert arguments == ["BASE_IMAGE=localhost/base:1"]
    assert not any(word.startswith(("--env", "--volume")) for word in words)


def test_a_push_keeps_the_path_and_changes_the_host() -> None:
    assert builder.pushed_name(REFERENCE, "10.99.0.2:5000") == "10.99.0.2:5000/trainer:0.1.0-abc"
    assert builder.buildah_push(REFERENCE, "10.99.0.2:5000")[-2:] == [
        REFERENCE,
        "docker://10.99.0.2:5000/trainer:0.1.0-abc",
    ]


def test_the_newest_images_of_a_name_are_kept() -> None:
    listed = [
        {"createdatraw": "2026-01-02T00:00:00Z", "names": ["r/a:2"]},
        {"createdatraw": "2026-01-04T00:00:00Z", "names": ["r/a:4"]},
        {"createdatraw": "2026-01-01T00:00:00Z", "names": ["r/a:1"]},
        {"createdatraw": "2026-01-03T00:00:00Z", "names": ["r/a:3"]},
        {"createdatraw": "2025-01-01T00:00:00Z", "names": ["r/ab:1"]},
        {"createdatraw": "2025-01-01T00:00:00Z", "names": None},
    ]
    assert builder.outdated(listed, "r/a", keep=2) == ["r/a:2", "r/a:1"]
    assert builder.outdated(listed, "r/a", keep=4) == []


def test_an_unknown_image_is_refused_with_the_names_that_exist() -> None:
    with pytest.raises(ImagesError, match="no image 'opreator'; there are operator, router, server, trainer"):
        select(["opreator"])
