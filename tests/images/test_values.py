"""What a build leaves for Helm fits the chart."""

from pathlib import Path

import yaml

from images import values
from images.catalog import IMAGES

ROOT = Path(__file__).resolve().parents[2]


def test_the_chart_gets_the_tag_of_every_image_it_knows() -> None:
    rendered = yaml.safe_load(values.render({image.name: f"0.1.0-{image.name}" for image in IMAGES}))
    chart = yaml.safe_load((ROOT / "charts/fettle/values.yaml").read_text())["images"]
    assert set(rendered["images"]) == {name for name, value in chart.items() if isinstance(value, dict)}
    assert rendered["images"]["operator"] == {"tag": "0.1.0-operator"}


def test_the_chart_names_the_images_as_they_are_pushed() -> None:
    chart = yaml.safe_load((ROOT / "charts/fettle/values.yaml").read_text())["images"]
    for image in IMAGES:
        if image.in_chart:
            assert f"{chart['registry']}/{chart[image.name]['repository']}" == image.repository
