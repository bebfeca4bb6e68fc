"""What a build is given on this machine."""

from pathlib import Path

import pytest

from images.builder import Buildah
from images.catalog import IMAGES
from images.work import Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(Buildah(tmp_path), "localhost/base:1", tmp_path)


def test_another_index_for_torch_renames_only_the_images_that_hold_torch(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FETTLE_TORCH_INDEX", raising=False)
    before = {image.name: workshop.reference(image) for image in IMAGES}
    monkeypatch.setenv("FETTLE_TORCH_INDEX", "https://index.example/cpu")
    renamed = {image.name for image in IMAGES if workshop.reference(image) != before[image.name]}
    assert renamed == {"server", "trainer"}
