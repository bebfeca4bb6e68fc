"""A node's kubelet and kube-proxy."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from devcluster import cgroups, containerd, files, pki, processes
from devcluster.plan import CLUSTER_DOMAIN
from devcluster.processes import Program
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devcluster.kubeapi import KubeApi
    from devcluster.plan import Node, Plan

_READY_TIMEOUT_S = 60


def start(plan: Plan, node: Node, programs: Mapping[str, Path]) -> None:
    """Start a node's kubelet and kube-proxy, without waiting for them."""
    cgroups.ensure(node.cgroup)
    # Empty: the host's resolver cannot be reached from the cluster's network.
    files.write(node.state / "resolv.conf", "")
    kubelet = json.dumps(kubelet_config(plan, node), indent=2)
    file = node.state / "kubelet.yaml"
    files.write(file, kubelet)
    argv = (str(programs["kubelet"]), *kubelet_arguments(plan, node, file))
    processes.ensure(
        plan.state, Program(pki.kubelet(node), argv, node.namespace, configuration=kubelet), plan.logs
    )

    proxy = json.dumps(proxy_config(plan, node), indent=2)
    file = node.state / "kube-proxy.yaml"
    files.write(file, proxy)
    argv = (str(programs["kube-proxy"]), f"--config={file}")
    processes.ensure(
        plan.state, Program(proxy_name(node), argv, node.namespace, configuration=proxy), plan.logs
    )


def wait(plan: Plan, node: Node, api: KubeApi) -> None:
    """Wait until a node is Ready."""
    path = f"/api/v1/nodes/{node.name}"
    wait_until(
        # The object alone may still tell of a kubelet that was killed a moment ago.
        lambda: is_ready(api.find(path)) and api.answers(f"{path}/proxy/healthz"),
        timeout_s=_READY_TIMEOUT_S,
        otherwise=lambda: f"{node.name} is not Ready; see {plan.logs / (pki.kubelet(node) + '.log')}",
    )


def is_ready(found: Mapping[str, Any] | None) -> bool:
    """Tell whether a Node object says that the node is Ready."""
    conditions = found["status"].get("conditions", []) if found else []
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def set_fake_gpus(plan: Plan, node: Node, api: KubeApi) -> None:
    """Let a node offer GPUs that do not exist, so that pods that ask for some are scheduled and run."""
    path = f"/api/v1/nodes/{node.name}"
    wanted = str(plan.fake_gpus) if plan.fake_gpus else None
    found = api.find(path)
    if found is None or found["status"]["capacity"].get("nvidia.com/gpu") == wanted:
        return
    gpus = {"nvidia.com/gpu": wanted}
    status = {"status": {"capacity": gpus, "allocatable": gpus}}
    api.request("PATCH", f"{path}/status", status, content_type="application/merge-patch+json")


def proxy_name(node: Node) -> str:
    """Return the name of a node's kube-proxy among the cluster's programs."""
    return f"kube-proxy-{node.name}"


def kubelet_arguments(plan: Plan, node: Node, config: Path) -> list[str]:
    """Return what the kubelet takes on its command line only."""
    return [
        f"--config={config}",
        f"--kubeconfig={pki.kubeconfig_of(plan, pki.kubelet(node))}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
        f"--root-dir={node.state / 'kubelet'}",
        f"--cert-dir={node.state / 'kubelet-pki'}",
    ]


def kubelet_config(plan: Plan, node: Node) -> dict[str, Any]:
    """Return the kubelet's configuration file."""
    serving = pki.kubelet_serving(plan, node)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "tlsCertFile": str(serving.cert),
        "tlsPrivateKeyFile": str(serving.key),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(plan.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "readOnlyPort": 0,
        "containerRuntimeEndpoint": f"unix://{containerd.socket(node)}",
        "clusterDNS": [plan.dns_service_address],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(node.state / "resolv.conf"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{node.cgroup}",
        "failSwapOn": False,
        # The disk and the memory are the developer's; only real need may cost a pod its life, or an image.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "1%",
            "nodefs.inodesFree": "1%",
            "imagefs.available": "1%",
        },
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        # Everything that would lie in the host's own folders otherwise.
        "podLogsDir": str(node.state / "pod-logs"),
        "volumePluginDir": str(node.state / "volume-plugins"),
        "makeIPTablesUtilChains": False,
    }


def proxy_config(plan: Plan, node: Node) -> dict[str, Any]:
    """Return kube-proxy's configuration file."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": str(pki.kubeconfig_of(plan, pki.PROXY))},
        "hostnameOverride": node.name,
        # What comes from elsewhere (the host) is translated, so that the answer takes the same way back.
        "clusterCIDR": plan.pod_cidr,
        # The host's limit on connections is not a network namespace's to change.
        "conntrack": {"maxPerCore": 0},
    }
