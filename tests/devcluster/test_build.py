"""Programs are built once, completely or not at all, by whoever asks first."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devcluster import binaries, build
from devcluster.errors import DevclusterError
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

# Stands in for Go: says its version, and makes what `-o` names (a folder gets one file for each package).
GO = """#!/bin/sh
echo "$@" >> "$GO_CALLS"
if [ "$1" = version ]; then echo "go version go$GO_VERSION linux/amd64"; exit 0; fi
mkdir -p "$GOCACHE"
mkdir "$GO_CALLS.running" || { echo "another build is running" >&2; exit 1; }
sleep 0.05
while [ -e "$GO_CALLS.held" ]; do sleep 0.01; done
while [ "$1" != -o ]; do shift; done
target=$2; shift 2
case "$target" in
  */) for package in "$@"; do echo built > "$target${package##*/}"; done;;
  *) echo built > "$target";;
esac
rmdir "$GO_CALLS.running"
if [ -n "$GO_FAILS" ]; then echo "main.go:1:1: syntax error" >&2; exit 1; fi
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "go").write_text(GO)
    (folder / "go").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FETTLE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("GOCACHE", raising=False)
    monkeypatch.setenv("GO_CALLS", str(tmp_path / "calls"))
    monkeypatch.setenv("GO_VERSION", "1.25.1")
    return tmp_path / "calls"


def wait_for(condition: Callable[[], bool]) -> None:
    wait_until(condition, timeout_s=30, every_s=0.01, otherwise=lambda: "it did not happen")


def builds(calls: Path) -> list[str]:
    return [line for line in calls.read_text().splitlines() if line.startswith("build")]


def test_the_programs_of_one_module_are_built_by_one_command(calls: Path) -> None:
    made = build.ensure(["kubelet", "kube-apiserver"])
    assert [path.read_text() for path in made.values()] == ["built\n", "built\n"]
    assert len(builds(calls)) == 1


def test_what_is_in_the_cache_is_not_built_again(calls: Path) -> None:
    build.ensure(["etcd"])
    build.ensure(["etcd"])
    assert len(builds(calls)) == 1


def test_callers_at_the_same_time_build_once_and_one_after_the_other(calls: Path) -> None:
    with ThreadPoolExecutor() as callers:
        made = list(callers.map(build.ensure, [["etcd"], ["kind"]] * 2))
    assert [path.read_text() for paths in made for path in paths.values()] == ["built\n"] * 4
    assert len(builds(calls)) == 2


def test_who_waits_comes_before_the_next_build_of_who_builds(
    calls: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = calls.with_name("calls.held")
    held.touch()
    with ThreadPoolExecutor() as callers:
        first = callers.submit(build.ensure, ["etcd", "kind"])
        wait_for(lambda: calls.exists() and bool(builds(calls)))
        second = callers.submit(build.ensure, ["registry"])
        wait_for(lambda: "waiting for another process that is building etcd" in capsys.readouterr().err)
        held.unlink()
        first.result()
        second.result()
    assert [line.rsplit("/", 1)[-1] for line in builds(calls)] == ["v3", "registry .", "kind"]


def test_a_build_that_fails_leaves_no_program_and_says_why(
    calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GO_FAILS", "yes")
    with pytest.raises(DevclusterError, match=r"building etcd failed: main\.go:1:1: syntax error"):
        build.ensure(["etcd"])
    assert calls.exists()
    assert not binaries.path("etcd").exists()
    assert not list(binaries.path("etcd").parent.glob(".building-*"))


@pytest.mark.usefixtures("calls")
def test_what_the_compiler_kept_goes_when_the_last_program_is_built(tmp_path: Path) -> None:
    build.ensure(["etcd", "kind"])
    assert (tmp_path / "cache" / "go-build").is_dir()
    build.ensure(binaries.names())
    assert not (tmp_path / "cache" / "go-build").exists()


@pytest.mark.usefixtures("calls")
def test_a_compile_cache_that_the_user_names_is_used_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOCACHE", str(tmp_path / "mine"))
    build.ensure(binaries.names())
    assert (tmp_path / "mine").is_dir()


@pytest.mark.usefixtures("calls")
def test_an_old_go_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GO_VERSION", "1.19.8")
    with pytest.raises(DevclusterError, match=r"Go 1\.19 is too old; install Go 1\.24"):
        build.ensure(["etcd"])


def test_a_program_nobody_builds_is_refused_with_the_list_of_those_that_are() -> None:
    with pytest.raises(DevclusterError, match="no program named 'docker'; it builds etcd, kube-apiserver"):
        build.ensure(["docker"])


@pytest.mark.parametrize("module", binaries.MODULES, ids=lambda module: str(module.name))
def test_every_module_pins_its_version_and_all_checksums(module: binaries.GoModule) -> None:
    assert module.version.startswith("v")
    assert f"{module.requirement} {module.version} h1:" in (module.folder / "go.sum").read_text()


def test_another_pin_means_another_place_in_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = binaries.module_of("etcd")
    before = module.key
    copy = tmp_path / module.folder.name
    copy.mkdir()
    for name in ("go.mod", "go.sum"):
        (copy / name).write_text((module.folder / name).read_text().replace("v3.6.6", "v3.6.7"))
    monkeypatch.setattr(binaries, "GO_FOLDER", tmp_path)
    assert module.version == "v3.6.7"
    assert module.key != before
