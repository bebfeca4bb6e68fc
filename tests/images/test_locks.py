"""The locks are complete, hashed, free of addresses, agree with each other and satisfy pyproject.toml."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
LOCKS = {file.stem: file.read_text() for file in sorted((ROOT / "locks").glob("*.txt"))}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = {
    "cli": ["cli"],
    "dev": ["dev", "operator", "router", "cli"],
    "operator": ["operator"],
    "router": ["router"],
    "server": ["server"],
    "trainer": ["trainer"],
    "model-dev": ["trainer", "server", "model-dev"],
}


def _locked(text: str) -> dict[str, Version]:
    found = re.findall(r"^([a-zA-Z0-9._-]+)==([^ ;\\]+)", text, flags=re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


def test_every_part_and_the_build_have_a_lock() -> None:
    assert set(LOCKS) == {*EXTRAS, "build"}
    assert {extra for extras in EXTRAS.values() for extra in extras} == set(PROJECT["optional-dependencies"])


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes(name: str) -> None:
    entries = re.split(r"^(?=[a-zA-Z0-9])", LOCKS[name], flags=re.MULTILINE)[1:]
    assert entries
    without = [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry]
    assert without == []


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_names_no_address_and_no_place_on_a_machine(name: str) -> None:
    code = [line.partition(" #")[0] for line in LOCKS[name].splitlines() if not line.lstrip().startswith("#")]
    assert [line for line in code if re.search(r"://|@|^\s*-(?!-hash)|^\s*--(?!hash)|/", line)] == []
    assert "://" not in LOCKS[name]


@pytest.mark.parametrize("name", EXTRAS)
def test_a_lock_satisfies_the_project(name: str) -> None:
    locked = _locked(LOCKS[name])
    wanted = [*PROJECT["dependencies"]]
    for extra in EXTRAS[name]:
        wanted += PROJECT["optional-dependencies"][extra]
    for text in wanted:
        requirement = Requirement(text)
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is missing; run `make lock`"
        assert version in requirement.specifier, f"{text} is not {version}; run `make lock`"


def test_parts_that_share_a_package_share_its_version() -> None:
    versions: dict[str, set[Version]] = {}
    for name, text in LOCKS.items():
        if name != "build":
            for package, version in _locked(text).items():
                versions.setdefault(package, set()).add(version)
    assert {package: found for package, found in versions.items() if len(found) > 1} == {}


def test_the_operators_lock_has_neither_torch_nor_a_kubernetes_client() -> None:
    # They would add gigabytes, or a hundred megabytes, to an image that needs neither.
    assert not {"torch", "transformers", "numpy", "kubernetes"} & set(_locked(LOCKS["operator"]))
