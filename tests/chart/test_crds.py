"""The chart ships the very definitions that are generated from the models, and never takes them away."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from helm_chart import CHART, ROOT, Manifest, of_kind, render

GENERATED = sorted((ROOT / "crds").glob("*.yaml"))


def shipped() -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in of_kind(render(), "CustomResourceDefinition")}


def test_the_charts_copy_is_the_generated_one() -> None:
    """Renew both with `make crds`."""
    copies = sorted((CHART / "files" / "crds").glob("*.yaml"))

    assert [path.name for path in copies] == [path.name for path in GENERATED]
    for copy, original in zip(copies, GENERATED, strict=True):
        assert copy.read_bytes() == original.read_bytes(), copy.name


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.stem)
def test_helm_changes_nothing_of_a_definition(path: Path) -> None:
    """Helm reads numbers as floating point: bounds must come out as they went in."""
    original = yaml.safe_load(path.read_text())

    assert shipped()[original["metadata"]["name"]]["spec"] == original["spec"]


def test_every_definition_outlives_the_release() -> None:
    assert set(shipped()) == {yaml.safe_load(path.read_text())["metadata"]["name"] for path in GENERATED}
    for name, crd in shipped().items():
        assert crd["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep", name


def test_the_definitions_can_be_left_out() -> None:
    assert of_kind(render({"crds": {"enabled": False}}), "CustomResourceDefinition") == []


def test_the_chart_has_no_crds_folder_which_helm_would_never_upgrade() -> None:
    assert not (CHART / "crds").exists()
