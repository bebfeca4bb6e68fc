"""What a new node takes over from another one, and when a copy of its books counts."""

import shutil
from pathlib import Path

import pytest

from devcluster import seeding
from devcluster.errors import DevclusterError

LAYER = "io.containerd.snapshotter.v1.overlayfs/snapshots/1/fs/library"
BOOKS = ("io.containerd.metadata.v1.bolt/meta.db", "io.containerd.snapshotter.v1.overlayfs/metadata.db")


@pytest.fixture
def donor(tmp_path: Path) -> Path:
    root = tmp_path / "donor"
    (root / "io.containerd.content.v1.content/blobs").mkdir(parents=True)
    for name in (LAYER, *BOOKS):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def test_a_new_node_shares_the_layers_and_has_books_of_its_own(tmp_path: Path, donor: Path) -> None:
    node = tmp_path / "node"

    seeding.seed(node, donor)

    assert (node / LAYER).samefile(donor / LAYER)
    for book in BOOKS:
        assert (node / book).read_text() == book
        assert not (node / book).samefile(donor / book)


def test_a_node_that_has_images_keeps_them(tmp_path: Path, donor: Path) -> None:
    node = tmp_path / "node"
    node.mkdir()

    seeding.seed(node, donor)

    assert list(node.iterdir()) == []


def test_a_seeding_that_was_cut_off_is_done_again(tmp_path: Path, donor: Path) -> None:
    left = tmp_path / "node.seeding" / BOOKS[0]
    left.parent.mkdir(parents=True)
    left.write_text("torn")

    seeding.seed(tmp_path / "node", donor)

    assert (tmp_path / "node" / BOOKS[0]).read_text() == BOOKS[0]
    assert not (tmp_path / "node.seeding").exists()


def test_a_layer_that_cannot_be_shared_is_told(tmp_path: Path, donor: Path) -> None:
    shutil.rmtree(donor / "io.containerd.content.v1.content")

    with pytest.raises(DevclusterError, match="blobs"):
        seeding.seed(tmp_path / "node", donor)

    assert not (tmp_path / "node").exists()


def test_a_book_that_is_written_to_meanwhile_is_copied_again(tmp_path: Path) -> None:
    book, copy = tmp_path / "book", tmp_path / "copy"
    book.write_text("first")
    copies = 0

    def duplicate(source: Path, target: Path) -> None:
        nonlocal copies
        copies += 1
        shutil.copyfile(source, target)
        if copies == 1:
            source.write_text("second")

    seeding.copy_at_rest(book, copy, duplicate)

    assert copy.read_text() == "second"


def test_a_book_that_never_rests_is_refused(tmp_path: Path) -> None:
    book = tmp_path / "book"
    book.write_text("0")

    def duplicate(source: Path, target: Path) -> None:
        shutil.copyfile(source, target)
        source.write_text(source.read_text() + "0")

    with pytest.raises(DevclusterError, match="written to all the time"):
        seeding.copy_at_rest(book, tmp_path / "copy", duplicate)
