"""The embedded cluster survives what happens to machines and commands, and leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cluster_plugin import SCRATCH, bring_up
from devcluster import cgroups, mounts, network, paths, processes, registry, state, traces
from devcluster import cluster as devcluster
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster_plugin import Cluster

pytestmark = pytest.mark.cluster
REPOSITORY = Path(__file__).parents[2]
STATE = paths.state_root(SCRATCH)
# Killed together: what does not depend on each other. etcd and the API server each take everything along.
ROUNDS = (
    {"etcd"},
    {"kube-apiserver"},
    {"containerd-node1", "kubelet-node2", "kube-controller-manager", "coredns"},
    {"kubelet-node1", "containerd-node2", "kube-proxy-node2", "registry"},
    {"kube-proxy-node1", "kube-scheduler", "local-path-provisioner"},
)


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    devcluster.down(SCRATCH)


def test_down_leaves_nothing_of_the_cluster_on_the_machine() -> None:
    devcluster.down(SCRATCH)
    before = traces_on_the_machine()
    cluster = bring_up(SCRATCH, nodes=2)
    run_a_pod(cluster, "remains")
    during = traces_on_the_machine()
    seen = {kind for kind, _ in during - before}
    devcluster.down(SCRATCH)
    after = traces_on_the_machine()

    assert sorted(after - before) == []
    # Pods of the default cluster may end meanwhile; what the machine has by itself must all be there still.
    kept = {"link", "route", "netns", "firewall", "setting"}
    assert sorted((kind, text) for kind, text in before - after if kind in kept) == []
    # The comparison means something only if it sees what there is to leave.
    assert seen >= {"process", "mount", "link", "route", "cgroup", "file"}


def test_up_mends_a_cluster_whichever_of_its_programs_was_killed() -> None:
    cluster = bring_up(SCRATCH, nodes=2)
    run_a_pod(cluster, "witness")
    healthy = processes.running(STATE)
    assert set(healthy) == set().union(*ROUNDS)
    for victims in ROUNDS:
        for name in victims:
            os.kill(healthy[name].pid, signal.SIGKILL)
        wait_until(
            lambda victims=victims: victims.isdisjoint(processes.running(STATE)),  # type: ignore[misc]
            timeout_s=10,
            otherwise=lambda victims=victims: f"{victims} are still there",  # type: ignore[misc]
        )
        found = devcluster.status(SCRATCH)
        assert found is not None
        assert {name for name, pid in found.programs.items() if pid is None} == victims
        bring_up(SCRATCH)
        now = processes.running(STATE)
        assert {name for name in healthy if now[name].pid != healthy[name].pid} == victims
        healthy = now
    assert is_running(cluster, "witness")


@pytest.mark.parametrize("moment", ["etcd", "containerd-node1", "kubelet-node1"])
def test_an_up_that_is_killed_is_finished_by_the_next_one(moment: str) -> None:
    devcluster.down(SCRATCH)
    with subprocess.Popen(
        [sys.executable, "-m", "devcluster", "up", "--instance", SCRATCH],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
    ) as first:
        wait_until(
            lambda: moment in processes.running(STATE),
            timeout_s=60,
            every_s=0.005,
            otherwise=lambda: f"{moment} was never started",
        )
        first.kill()
    cluster = bring_up(SCRATCH)
    run_a_pod(cluster, "witness")


def test_a_down_that_is_killed_is_finished_by_the_next_one() -> None:
    devcluster.down(SCRATCH)
    before = traces_on_the_machine()
    bring_up(SCRATCH)
    with subprocess.Popen(
        [sys.executable, "-m", "devcluster", "down", "--instance", SCRATCH], cwd=REPOSITORY
    ) as first:
        wait_until(
            lambda: "kube-apiserver" not in processes.running(STATE),
            timeout_s=60,
            every_s=0.001,
            otherwise=lambda: "the API server was never stopped",
        )
        first.kill()
    devcluster.down(SCRATCH)
    assert sorted(traces_on_the_machine() - before) == []


def test_a_cluster_comes_back_with_its_objects_after_the_machine_was_started_anew() -> None:
    cluster = bring_up(SCRATCH)
    run_a_pod(cluster, "witness")
    cluster.kubectl("create", "configmap", "kept")
    lose_everything_but_the_disk(cluster)
    cluster = bring_up(SCRATCH)
    cluster.kubectl("get", "configmap", "kept")
    # Only the kubelet knows: the condition Ready in the API may still be the one from before.
    wait_until(
        lambda: cluster.try_kubectl("exec", "witness", "--", "echo", "alive").stdout == "alive\n",
        timeout_s=60,
        otherwise=lambda: cluster.kubectl("describe", "pod", "witness"),
    )


def test_the_registry_serves_before_the_cluster_runs_and_up_goes_on_from_there() -> None:
    devcluster.down(SCRATCH)
    address = devcluster.start_registry(SCRATCH).registry
    assert registry.answers(address)
    assert set(processes.running(STATE)) == {"registry"}
    before = processes.running(STATE)["registry"].pid
    cluster = bring_up(SCRATCH)
    assert cluster.registry == address
    assert processes.running(STATE)["registry"].pid == before


def test_a_second_command_is_refused_while_the_first_works() -> None:
    devcluster.down(SCRATCH)
    state.store(STATE, state.Wanted(index=7, nodes=1, fake_gpus=0))
    command = [sys.executable, "-m", "devcluster", "down", "--instance", SCRATCH]
    with state.locked(STATE):
        refused = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert "another devcluster command works on" in refused.stderr


def run_a_pod(cluster: Cluster, name: str) -> None:
    image = "fettle.dev/devcluster/busybox:1"
    cluster.kubectl("run", name, f"--image={image}", "--", "sleep", "100000")
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=60s", f"pod/{name}")


def is_running(cluster: Cluster, name: str) -> bool:
    ready = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    return cluster.kubectl("get", "pod", name, "-o", ready) == "True"


def lose_everything_but_the_disk(cluster: Cluster) -> None:
    devcluster._end_processes(cluster.plan)
    network.remove(cluster.plan)
    mounts.unmount_below(STATE)
    for node in cluster.plan.nodes:
        cgroups.remove(node.cgroup)
    (cluster.plan.run / "boot-id").write_text("an earlier one")


def traces_on_the_machine() -> set[tuple[str, str]]:
    """Return everything on the machine that a cluster could leave, without what other tests and builds change."""
    found = {("process", f"{one.program} {one.pid}") for one in processes.family(STATE)}
    mounted = Path("/proc/self/mountinfo").read_text()
    found |= {("mount", str(point)) for point in mounts.points(mounted)}
    found |= {("link", name.name) for name in Path("/sys/class/net").iterdir()}
    found |= {("route", line) for line in output("ip", "route", "show", "table", "all").splitlines()}
    found |= {("netns", line) for line in output("ip", "netns", "list").splitlines()}
    found |= {("firewall", line) for line in output("nft", "list", "ruleset").splitlines()}
    # A node's are all below one at the top; what comes and goes deeper down belongs to whose the upper one is.
    tops = cgroups.hierarchies(mounted)
    found |= {("cgroup", str(path)) for top in tops for path in top.iterdir() if path.is_dir()}
    found |= {
        ("setting", f"{name} {(Path('/proc/sys') / name).read_text().strip()}") for name in traces.SYSCTLS
    }
    places = [
        *traces.FOLDERS,
        Path("/var/log/pods"),
        Path("/run/netns"),
        Path("/usr/libexec/kubernetes"),
        Path("/etc/cni"),
        Path("/opt/cni"),
    ]
    found |= {("file", str(path)) for place in places for path in [place, *place.rglob("*")] if path.exists()}
    found |= {("file", str(STATE))} if STATE.exists() else set()
    default = re.escape(str(paths.state_root()))
    others = re.compile(rf"{default}/|\bfettle0|/storage/overlay/|\b10\.(99\.0|244|96\.([0-9]|1[0-5]))\.")
    return {(kind, text) for kind, text in found if not others.search(text)}


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
