"""Which images are forgotten, and which must stay."""

import os
from pathlib import Path

from devcluster import forgetting

NEW, OLD, OTHER = "sha256:new", "sha256:old", "sha256:other"


def push(storage: Path, repository: str, tag: str, age_s: int) -> Path:
    link = storage / "docker/registry/v2/repositories" / repository / "_manifests/tags" / tag / "current/link"
    link.parent.mkdir(parents=True)
    link.write_text("sha256:0")
    os.utime(link, (1_000_000 - age_s, 1_000_000 - age_s))
    return link.parents[1]


def test_only_the_tag_pushed_last_stays_in_a_repository(tmp_path: Path) -> None:
    old = push(tmp_path, "trainer", "z-old", age_s=60)
    new = push(tmp_path, "trainer", "a-new", age_s=0)

    assert forgetting.superseded(new.parent) == [old]


def test_the_registrys_tags_are_told_by_the_names_that_pods_use(tmp_path: Path) -> None:
    push(tmp_path, "operator", "0.1.0-abc", age_s=0)
    push(tmp_path, "team/tools", "1", age_s=0)

    assert forgetting.tags_in(tmp_path) == {
        "registry.fettle.dev/operator:0.1.0-abc",
        "registry.fettle.dev/team/tools:1",
    }


def test_an_image_goes_with_all_its_names_and_no_other_image_goes() -> None:
    listed = [
        ("registry.fettle.dev/operator:1", OLD),
        (f"registry.fettle.dev/operator@{OLD}", OLD),
        ("sha256:id-of-old", OLD),
        ("registry.fettle.dev/operator:2", NEW),
        (f"registry.fettle.dev/operator@{NEW}", NEW),
        ("sha256:id-of-new", NEW),
        ("fettle.dev/devcluster/busybox:1", OTHER),
        ("sha256:id-of-busybox", OTHER),
    ]

    assert forgetting.forgotten(listed, {"registry.fettle.dev/operator:2"}) == [
        name for name, _ in listed[:3]
    ]


def test_a_tag_that_was_pushed_again_under_another_name_keeps_its_image() -> None:
    listed = [("registry.fettle.dev/operator:1", NEW), ("registry.fettle.dev/operator:2", NEW)]

    assert forgetting.forgotten(listed, {"registry.fettle.dev/operator:2"}) == []
