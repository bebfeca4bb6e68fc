"""Fixtures on a real cluster: the machine's default one, which tests share, and a scratch one, which tests may break."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devcluster import build, paths, processes
from devcluster import cluster as devcluster
from devcluster.plan import Plan

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRATCH = "scratch"
TRAINING = "training"
_KUBECTL_TIMEOUT_S = 180


@dataclass(frozen=True)
class Cluster:
    """A running cluster, as tests use it."""

    plan: Plan
    kubectl_program: Path

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.plan.kubeconfig

    @property
    def registry(self) -> str:
        """Where images are pushed to."""
        return self.plan.registry

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return what it printed; a failure fails the test with kubectl's own words."""
        done = self.try_kubectl(*arguments, stdin=stdin)
        if done.returncode != 0:
            pytest.fail(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def try_kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl and return its exit code and output, for what ought to be refused."""
        return subprocess.run(
            [str(self.kubectl_program), "--kubeconfig", str(self.kubeconfig), *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=_KUBECTL_TIMEOUT_S,
            check=False,
        )


def bring_up(instance: str, *, nodes: int | None = None, fake_gpus: int | None = None) -> Cluster:
    """Bring a cluster up, or join one that is there."""
    plan = devcluster.up(instance, nodes=nodes, fake_gpus=fake_gpus)
    return Cluster(plan, build.ensure(["kubectl"])["kubectl"])


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Return the default cluster; one that was there before stays, one that this run brought up goes at its end."""
    is_worker = hasattr(request.config, "workerinput")
    shared = tmp_path_factory.getbasetemp().parent if is_worker else tmp_path_factory.getbasetemp()
    with (shared / "cluster.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # The build of the images has started the registry by now, which is no cluster yet.
        was_there = "kube-apiserver" in processes.running(paths.state_root())
        found = bring_up(paths.DEFAULT_INSTANCE)
        if not was_there:
            # Workers are children of the process that runs the whole session, and only that one knows the end.
            _mark().write_text(str(os.getppid() if is_worker else os.getpid()))
        return found


def pytest_sessionfinish() -> None:
    """Take down the cluster that this run brought up."""
    if os.geteuid() == 0 and _mark().exists() and _mark().read_text() == str(os.getpid()):
        devcluster.down(paths.DEFAULT_INSTANCE)


@pytest.fixture(scope="module")
def scratch_cluster() -> Iterator[Cluster]:
    """Return a cluster of two nodes with GPUs that do not exist, for tests that break things."""
    devcluster.down(SCRATCH)
    yield bring_up(SCRATCH, nodes=2, fake_gpus=4)
    devcluster.down(SCRATCH)


@pytest.fixture(scope="module")
def two_node_cluster(cluster: Cluster) -> Iterator[Cluster]:
    """Return a cluster of two nodes with GPUs that do not exist and the images of the default one."""
    devcluster.down(TRAINING)
    # The default cluster's images may have changed since these were taken over from it.
    _forget_images(TRAINING, cluster)
    yield bring_up(TRAINING, nodes=2, fake_gpus=4)
    devcluster.down(TRAINING)
    _forget_images(TRAINING, cluster)


def _forget_images(instance: str, cluster: Cluster) -> None:
    for root in (cluster.plan.cache / "containerd").glob(f"{instance}-node*"):
        shutil.rmtree(root)


def _mark() -> Path:
    return paths.state_root() / "brought-up-by-test-run"
