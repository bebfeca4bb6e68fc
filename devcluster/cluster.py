"""Bringing a cluster up and taking it down.

Every step looks at the world and makes what is missing, so that a step may be repeated, and a command that was
killed at any point is finished by running it again.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devcluster import (
    addons,
    binaries,
    build,
    cgroups,
    containerd,
    controlplane,
    mounts,
    network,
    node,
    packages,
    pki,
    processes,
    registry,
    state,
    traces,
)
from devcluster.errors import DevclusterError
from devcluster.kubeapi import ApiError
from devcluster.paths import cache_root, state_root
from devcluster.plan import MAX_INSTANCES, check_state_path
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from devcluster.kubeapi import KubeApi
    from devcluster.plan import Plan

_FIRST_PODS_TIMEOUT_S = 60


def up(instance: str, *, nodes: int | None, fake_gpus: int | None) -> Plan:
    """Bring a cluster up, or finish or mend one that is there."""
    packages.check_machine()
    packages.install_missing()
    programs = build.ensure(binaries.CLUSTER)
    started = time.monotonic()
    with _prepared(instance, nodes=nodes, fake_gpus=fake_gpus) as plan:
        certificates = pki.ensure(plan)
        network.ensure(plan)
        controlplane.start_api(plan, certificates, programs)
        registry.start(plan, programs)
        for each in plan.nodes:
            containerd.start(plan, each)
        for each in plan.nodes:
            containerd.finish(plan, each)
        api = pki.admin_api(plan)
        controlplane.wait_for_api(plan, api)
        _say(started, f"the API server answers at {plan.api_url}")
        controlplane.start_controllers(plan, certificates, programs)
        for each in plan.nodes:
            node.start(plan, each, programs)
        addons.start(plan, api, programs)
        for each in plan.nodes:
            node.wait(plan, each, api)
            node.set_fake_gpus(plan, each, api)
            _say(started, f"{each.name} is Ready")
        registry.wait(plan)
        _wait_for_first_pods(api)
        _check_programs(plan)
        pki.write_admin_kubeconfig(plan, certificates)
        _say(started, f"the cluster is up; use it with: export KUBECONFIG={plan.kubeconfig}")
    return plan


def start_registry(instance: str) -> Plan:
    """Start only the local registry, so that images can be pushed before the cluster runs."""
    packages.check_machine()
    packages.install_missing()
    programs = build.ensure([registry.NAME])
    with _prepared(instance, nodes=None, fake_gpus=None) as plan:
        network.ensure(plan)
        registry.start(plan, programs)
        registry.wait(plan)
    return plan


def down(instance: str) -> bool:
    """Remove a cluster without a trace, its caches apart; tell whether there was one."""
    packages.check_machine()
    wanted = state.load(state_root(instance))
    if wanted is None:
        return False
    with state.locked(state_root(instance)):
        plan = state.plan(instance, cache_root(), wanted)
        _end_processes(plan)
        for each in plan.nodes:
            cgroups.remove(each.cgroup)
        network.remove(plan)
        traces.remove_files(plan)
        mounts.unmount_below(plan.state)
        if not state.others(instance):
            traces.restore_machine(plan)
        _remove_state(plan.state)
    return True


@dataclass(frozen=True)
class Status:
    """What of a cluster is there: its programs, and what the API says of its nodes."""

    plan: Plan
    programs: dict[str, int | None]
    """Each program that ought to run, with its process id, or None."""
    nodes: dict[str, bool]
    """Each node that ought to be there, and whether it is Ready."""

    @property
    def is_whole(self) -> bool:
        """Tell whether nothing is missing."""
        return all(pid is not None for pid in self.programs.values()) and all(self.nodes.values())


def status(instance: str) -> Status | None:
    """Look at a cluster without touching it; None where none was asked for."""
    packages.check_machine()
    wanted = state.load(state_root(instance))
    if wanted is None:
        return None
    plan = state.plan(instance, cache_root(), wanted)
    running = processes.running(plan.state)
    programs = {name: running[name].pid if name in running else None for name in expected_programs(plan)}
    return Status(plan, programs, _nodes_ready(plan))


def expected_programs(plan: Plan) -> list[str]:
    """Return the names of the programs of a whole cluster."""
    shared = [
        controlplane.ETCD,
        controlplane.API_SERVER,
        pki.CONTROLLER_MANAGER,
        pki.SCHEDULER,
        registry.NAME,
        pki.DNS,
        pki.STORAGE,
    ]
    return shared + [
        name
        for each in plan.nodes
        for name in (containerd.name(each), pki.kubelet(each), node.proxy_name(each))
    ]


@contextlib.contextmanager
def _prepared(instance: str, *, nodes: int | None, fake_gpus: int | None) -> Iterator[Plan]:
    """Record what is wanted, and hold the cluster for this command."""
    folder = state_root(instance)
    check_state_path(folder)
    others = state.others(instance)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # The parent folder is held for the moment in which an index is chosen, so that two clusters never share one.
    with state.locked(folder.parent, wait=True):
        taken = {wanted.index for wanted in others.values()}
        taken |= {index for index in range(MAX_INSTANCES) if network.is_taken(index)}
        wanted = state.decide(state.load(folder), nodes=nodes, fake_gpus=fake_gpus, taken=taken)
        state.store(folder, wanted)
    # `up` and `registry` are often asked for side by side, and both only make what is missing: one waits for the other.
    with state.locked(folder, wait=True):
        plan = state.plan(instance, cache_root(), wanted)
        traces.forget_last_boot(plan)
        traces.record_machine(plan, others)
        yield plan


def _wait_for_first_pods(api: KubeApi) -> None:
    # Until its namespace has a service account, a pod is refused.
    wait_until(
        lambda: api.answers("/api/v1/namespaces/default/serviceaccounts/default"),
        timeout_s=_FIRST_PODS_TIMEOUT_S,
        otherwise=lambda: "the default namespace got no service account; see kube-controller-manager.log",
    )


def _check_programs(plan: Plan) -> None:
    running = processes.running(plan.state)
    ended = [name for name in expected_programs(plan) if name not in running]
    if ended:
        raise DevclusterError(f"{', '.join(ended)} ended after the start; see the logs in {plan.logs}")


def _end_processes(plan: Plan) -> None:
    runtimes = {containerd.name(each) for each in plan.nodes}
    family = list(processes.family(plan.state))
    # First whoever would start something again, then the containers, then their keepers.
    processes.stop([one.pid for one in family if one.program not in runtimes], signal.SIGKILL)
    for each in plan.nodes:
        cgroups.kill(each.cgroup)
    processes.stop([one.pid for one in family if one.program in runtimes and one.leads])
    processes.stop([one.pid for one in processes.family(plan.state)], signal.SIGKILL)


def _nodes_ready(plan: Plan) -> dict[str, bool]:
    try:
        api = pki.admin_api(plan)
        return {each.name: node.is_ready(api.find(f"/api/v1/nodes/{each.name}")) for each in plan.nodes}
    except (ApiError, FileNotFoundError):
        return {each.name: False for each in plan.nodes}


def _remove_state(folder: Path) -> None:
    # The record of what was wanted goes last: until then, another `down` can finish this one.
    for entry in folder.iterdir():
        if entry.name != state.FILE:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    shutil.rmtree(folder)


def _say(started: float, text: str) -> None:
    sys.stderr.write(f"[{time.monotonic() - started:4.1f} s] {text}\n")
    sys.stderr.flush()


def kubeconfig(instance: str) -> Path:
    """Return where the administrator's kubeconfig of a running cluster lies."""
    packages.check_machine()
    path = state_root(instance) / "kubeconfig"
    if not path.exists():
        raise DevclusterError("no cluster is up; bring one up with `python3 -m devcluster up`")
    return path
