"""What a cluster consists of: its nodes, names and addresses. Pure; everything else is derived from it.

Several clusters can live side by side on one machine. Each has an index, and the index alone decides its address
ranges and the names of its network devices, so that two clusters never meet.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError
from devcluster.paths import DEFAULT_INSTANCE

if TYPE_CHECKING:
    from pathlib import Path

MAX_INSTANCES = 8
MAX_NODES = 9
MAX_FAKE_GPUS = 64
LONGEST_STATE_PATH = 60
"""Sockets lie below the state folder, and the kernel takes 107 characters for the path of one."""
CLUSTER_DOMAIN = "cluster.local"
API_PORT = 6443
REGISTRY_PORT = 5000
REGISTRY_NAME = "registry.fettle.dev"
"""The registry in the names of Fettle's images; inside the cluster it means the local registry."""


@dataclass(frozen=True)
class Node:
    """One node: a network namespace with a container runtime and a kubelet of its own."""

    name: str
    namespace: Path
    """The network namespace: a file that it is mounted on, so that it lives without a process in it."""
    address: str
    pod_cidr: str
    cgroup: str
    """The folder, in every cgroup hierarchy, below which the node's pods live."""
    state: Path
    """What is lost with the cluster, but not by a reboot."""
    run: Path
    """What means nothing after a reboot."""
    images: Path
    """containerd's own root, in the cache: images outlive the cluster."""


@dataclass(frozen=True)
class Plan:
    """One cluster."""

    instance: str
    index: int
    state: Path
    cache: Path
    node_count: int
    fake_gpus: int

    @property
    def device(self) -> str:
        """The name of the cluster's only network device on the host."""
        return f"fettle{self.index}"

    @property
    def host_address(self) -> str:
        """The host's address on the cluster's network."""
        return f"10.99.{self.index}.1"

    @property
    def pod_cidr(self) -> str:
        """The range of all pods."""
        return f"10.{244 + self.index}.0.0/16"

    @property
    def service_cidr(self) -> str:
        """The range of all Services."""
        return f"{self._service_prefix}.0/20"

    @property
    def api_service_address(self) -> str:
        """The address of the `kubernetes` Service."""
        return f"{self._service_prefix}.1"

    @property
    def dns_service_address(self) -> str:
        """The address of the DNS Service."""
        return f"{self._service_prefix}.10"

    @property
    def _service_prefix(self) -> str:
        return f"10.96.{16 * self.index}"

    @property
    def nodes(self) -> tuple[Node, ...]:
        """All nodes; the first one carries the control plane, the registry and the DNS server."""
        return tuple(self._node(number) for number in range(1, self.node_count + 1))

    @property
    def first(self) -> Node:
        """The node with the control plane."""
        return self._node(1)

    @property
    def api_url(self) -> str:
        """The API server's address, from the host and from the nodes."""
        return f"https://{self.first.address}:{API_PORT}"

    @property
    def registry(self) -> str:
        """The local registry's address, from the host and from the nodes."""
        return f"{self.first.address}:{REGISTRY_PORT}"

    @property
    def context(self) -> str:
        """The name of the cluster in its kubeconfig."""
        return "fettle-devcluster" + ("" if self.instance == DEFAULT_INSTANCE else f"-{self.instance}")

    @property
    def pki(self) -> Path:
        """The folder with the cluster's keys and certificates."""
        return self.state / "pki"

    @property
    def run(self) -> Path:
        """The folder with what means nothing after a reboot."""
        return self.state / "run"

    @property
    def logs(self) -> Path:
        """The folder with every program's log."""
        return self.state / "logs"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.state / "kubeconfig"

    @property
    def switch(self) -> Path:
        """The network namespace of the switch between the nodes and the host."""
        return self._namespaces / "switch"

    @property
    def image_donor(self) -> Path:
        """Whose images a new node begins with: those of the machine's default cluster."""
        return self.cache / "containerd" / f"{DEFAULT_INSTANCE}-node1"

    @property
    def _namespaces(self) -> Path:
        return self.run / "netns"

    def _node(self, number: int) -> Node:
        name = f"node{number}"
        return Node(
            name=name,
            namespace=self._namespaces / name,
            address=f"10.99.{self.index}.{number + 1}",
            pod_cidr=f"10.{244 + self.index}.{number}.0/24",
            cgroup=f"{self.device}n{number}",
            state=self.state / name,
            run=self.run / name,
            images=self.cache / "containerd" / f"{self.instance}-{name}",
        )


def check_instance_name(name: str) -> str:
    """Return the name if it can be part of a folder's name, and refuse it otherwise."""
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?", name):
        raise DevclusterError(
            f"--instance {name!r} is not usable: take up to 20 small letters, digits and dashes, a letter first"
        )
    return name


def check_state_path(state: Path) -> None:
    """Refuse a state folder that is too deep for the sockets in it."""
    if len(str(state)) > LONGEST_STATE_PATH:
        raise DevclusterError(
            f"the state folder {state} has a path of more than {LONGEST_STATE_PATH} characters, which is too long for"
            " the sockets in it; set FETTLE_DEVCLUSTER_STATE to a shorter one"
        )


def check_counts(node_count: int, fake_gpus: int) -> None:
    """Refuse sizes that the address plan or the machine cannot carry."""
    if not 1 <= node_count <= MAX_NODES:
        raise DevclusterError(f"--nodes {node_count} is not possible: take 1 to {MAX_NODES}")
    if not 0 <= fake_gpus <= MAX_FAKE_GPUS:
        raise DevclusterError(f"--fake-gpus {fake_gpus} is not possible: take 0 to {MAX_FAKE_GPUS} per node")
