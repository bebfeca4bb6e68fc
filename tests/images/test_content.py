"""A tag is the content: it changes when an input changes, and only then."""

from collections.abc import Callable
from pathlib import Path

import pytest

from images import content
from images.catalog import IMAGES, Image

IMAGE = Image("part", "Dockerfile.part", in_chart=True)
ARGUMENTS = {"BASE_IMAGE": "debian"}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "Dockerfile.part").write_text("FROM debian AS part\nCOPY lock.txt /\nCOPY src /src\n")
    (tmp_path / "lock.txt").write_text("a==1\n")
    (tmp_path / "src" / "deep").mkdir(parents=True)
    (tmp_path / "src" / "deep" / "module.py").write_text("x = 1\n")
    return tmp_path


def _edit(name: str, text: str) -> Callable[[Path], None]:
    def edit(tree: Path) -> None:
        (tree / name).parent.mkdir(exist_ok=True)
        (tree / name).write_text(text)

    return edit


def _rename(tree: Path) -> None:
    (tree / "src" / "deep" / "module.py").rename(tree / "src" / "deep" / "other.py")


@pytest.mark.parametrize(
    "change",
    [
        _edit("src/deep/module.py", "x = 2\n"),
        _edit("src/new.py", ""),
        _edit("lock.txt", "a==2\n"),
        _edit("Dockerfile.part", "FROM debian AS part\nCOPY lock.txt /\nCOPY src /src\nUSER 1\n"),
        _rename,
    ],
    ids=["a file", "a new file", "the lock", "the Dockerfile", "a name"],
)
def test_a_changed_input_changes_the_tag(tree: Path, change: Callable[[Path], None]) -> None:
    before = content.tag(IMAGE, tree, ARGUMENTS)
    change(tree)
    assert content.tag(IMAGE, tree, ARGUMENTS) != before


@pytest.mark.parametrize(
    "change",
    [
        _edit("README.md", "hello"),
        _edit("src/__pycache__/module.pyc", "bytes"),
        _edit("pyproject.toml", '[project]\nversion = "1.2.3"\ndescription = "other"\n'),
        lambda tree: (tree / "lock.txt").touch(),
    ],
    ids=["a file that is not copied", "bytecode", "unrelated settings", "a time"],
)
def test_what_a_build_does_not_see_leaves_the_tag_alone(tree: Path, change: Callable[[Path], None]) -> None:
    before = content.tag(IMAGE, tree, ARGUMENTS)
    change(tree)
    assert content.tag(IMAGE, tree, ARGUMENTS) == before


def test_the_tag_carries_the_version_and_twelve_digits(tree: Path) -> None:
    version, _, digits = content.tag(IMAGE, tree, ARGUMENTS).partition("-")
    assert version == "1.2.3"
    assert len(digits) == 12
    assert set(digits) <= set("0123456789abcdef")


def test_another_base_image_gives_another_tag(tree: Path) -> None:
    assert content.tag(IMAGE, tree, {"BASE_IMAGE": "other"}) != content.tag(IMAGE, tree, ARGUMENTS)


def test_images_of_one_dockerfile_have_different_tags() -> None:
    root = Path(__file__).resolve().parents[2]
    tags = {content.tag(image, root, ARGUMENTS) for image in IMAGES}
    assert len(tags) == len(IMAGES)


def test_moving_bytes_from_one_file_to_the_next_changes_the_digest() -> None:
    assert content.digest([], [("a", b"xy"), ("b", b"")]) != content.digest([], [("a", b"x"), ("b", b"y")])
