"""The wheel carries every part, and each small extra installs and imports on its own.

The heavy extras (trainer, server) are proved by the trainer image, which is built from the same lock files.
"""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UV = ROOT / "scripts/uv"
PARTS = ("operator", "trainer", "server", "router", "cli")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        (sys.executable, "-m", "build", "--installer=uv", "--outdir", out, ROOT),
        check=True,
        capture_output=True,
        env=os.environ | {"PATH": f"{UV.parent}:{os.environ['PATH']}"},
    )
    assert len(list(out.glob("*.tar.gz"))) == 1
    return next(out.glob("*.whl"))


def test_the_wheel_carries_every_part_with_its_type_marker(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for part in PARTS:
        assert {f"fettle_{part}/__init__.py", f"fettle_{part}/py.typed"} <= names


def test_the_wheel_carries_nothing_but_the_parts(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {f"fettle_{part}" for part in PARTS} | {
        next(top for top in tops if top.endswith(".dist-info"))
    }


@pytest.mark.parametrize(
    ("extra", "must_not_come_along"),
    [
        ("operator", "torch"),
        ("router", "torch"),
        ("cli", "torch"),
        ("operator", "transformers"),
        ("cli", "kopf"),
    ],
)
def test_an_extra_installs_cleanly_and_brings_nothing_of_the_others(
    extra: str, must_not_come_along: str, wheel: Path, tmp_path: Path
) -> None:
    subprocess.run((UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv"), check=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run(
        (UV, "pip", "install", "--quiet", "--python", python, "-r", ROOT / f"locks/{extra}.txt"), check=True
    )
    subprocess.run(
        (UV, "pip", "install", "--quiet", "--offline", "--python", python, f"{wheel}[{extra}]"), check=True
    )
    subprocess.run((UV, "pip", "check", "--quiet", "--python", python), check=True)
    subprocess.run((python, "-c", f"import fettle_{extra}"), check=True, cwd=tmp_path)
    found = subprocess.run(
        (python, "-c", f"import {must_not_come_along}"),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "ModuleNotFoundError" in found.stderr
