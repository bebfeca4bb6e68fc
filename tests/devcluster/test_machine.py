"""What is read from the machine, and what is said to a user whose machine cannot carry a cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from devcluster import certs, cgroups, cli, files, mounts, packages, plan, processes, traces
from devcluster.certs import Identity
from devcluster.processes import Program

VERSION_1 = """\
24 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw
31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 30 0:28 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw
"""


@pytest.mark.parametrize("command", ["up", "down", "status", "registry", "kubeconfig"])
def test_a_user_who_is_not_root_is_told_so_in_one_sentence(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main([command]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "needs root" in said.err


def test_another_system_than_linux_is_told_so_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert cli.main(["up"]) == 1
    assert "needs Linux" in capsys.readouterr().err


def test_a_package_that_brings_two_missing_programs_is_installed_once() -> None:
    assert packages.missing_packages(["containerd", "containerd-shim-runc-v2", "nft"]) == [
        "containerd",
        "nftables",
    ]


def test_cgroups_of_both_versions_are_found() -> None:
    assert cgroups.hierarchies(VERSION_1) == [Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup/unified")]


def test_networks_of_pods_that_left_no_task_are_forgotten_with_their_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traces, "_CNI", tmp_path)
    gone = plan.Plan("one", 1, Path("/lib/cluster-one"), tmp_path, node_count=1, fake_gpus=0)
    results = tmp_path / "results"
    results.mkdir()
    for name, state in (("lo", "/lib/cluster-one"), ("eth0", "/lib/cluster-one"), ("other", "/lib/cluster")):
        (results / name).write_text(json.dumps({"sandbox": f"{state}/run/node1/netns/cni-1"}))

    traces.remove_files(gone)

    assert [result.name for result in results.iterdir()] == ["other"]


def test_a_mount_point_with_a_space_is_read_as_it_is() -> None:
    assert mounts.points("36 24 0:9 / /a\\040b rw - tmpfs tmpfs rw\n") == [Path("/a b")]


def test_a_process_whose_name_holds_brackets_is_read_right() -> None:
    stat = processes.parse_stat("7 (a) S (b) Z 1 7 42 0 -1")
    assert (stat.status, stat.session) == ("Z", 42)


@pytest.mark.parametrize(
    "other",
    [
        Program("dns", ("coredns", "-v"), Path("/netns")),
        Program("dns", ("coredns",), Path("/other")),
        Program("dns", ("coredns",), Path("/netns"), configuration="text"),
        Program("dns", ("coredns",), Path("/netns"), environment={"A": "b"}),
    ],
)
def test_whatever_changes_about_a_program_makes_another_version_of_it(other: Program) -> None:
    assert Program("dns", ("coredns",), Path("/netns")).version != other.version


def test_a_file_that_has_its_content_already_is_not_touched(tmp_path: Path) -> None:
    file = tmp_path / "new" / "file"
    files.write(file, "one")
    before = file.stat()
    files.write(file, "one")
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    files.write(file, "two")
    assert file.read_text() == "two"


def test_a_certificate_is_trusted_for_its_own_names_only(tmp_path: Path) -> None:
    ca = certs.authority(tmp_path, "ca", "test")
    pair = certs.issue(ca, tmp_path, "server", Identity("server", addresses=("10.0.0.1",), client=False))
    verify = ["openssl", "verify", "-CAfile", str(ca.cert), "-purpose", "sslserver", "-verify_ip"]
    assert subprocess.run([*verify, "10.0.0.1", str(pair.cert)], check=False).returncode == 0
    assert subprocess.run([*verify, "10.0.0.2", str(pair.cert)], check=False).returncode != 0
    assert pair.key.stat().st_mode & 0o077 == 0


def test_a_certificate_that_exists_is_kept(tmp_path: Path) -> None:
    ca = certs.authority(tmp_path, "ca", "test")
    first = certs.issue(ca, tmp_path, "user", Identity("user")).cert.read_bytes()
    assert certs.issue(ca, tmp_path, "user", Identity("user")).cert.read_bytes() == first
