"""The images say which version they are."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("dockerfile", sorted(ROOT.glob("Dockerfile.*")), ids=lambda path: path.name)
def test_the_label_is_the_projects_version(dockerfile: Path) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    labels = re.findall(r'image\.version="([^"]+)"', dockerfile.read_text())
    assert set(labels) == {version}
