"""The cluster's network: a switch and a network namespace for each node, all apart from the host's own network.

The switch is a bridge in a network namespace of its own, so that the host's firewall and forwarding settings have
no say between nodes. The host takes part with one device and a few routes, and has nothing else of the cluster.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devcluster import mounts
from devcluster.shell import output, run

if TYPE_CHECKING:
    from devcluster.plan import Node, Plan

_SWITCH = "switch"
_HOST_PORT = "host"
_UPLINK = "eth0"


def ensure(plan: Plan) -> None:
    """Make what is missing of the cluster's network."""
    _ensure_switch(plan)
    for node in plan.nodes:
        _ensure_node(plan, node)
    # Last, because a route needs its gateway to be reachable.
    for destination, gateway in host_routes(plan).items():
        run(["ip", "route", "replace", destination, "via", gateway, "dev", plan.device])


def remove(plan: Plan) -> None:
    """Remove the cluster's network; its devices and routes go with their namespaces."""
    if is_taken(plan.index):
        run(["ip", "link", "delete", plan.device])
    mounts.unmount_below(plan.switch.parent)


def is_taken(index: int) -> bool:
    """Tell whether the host has a device of that index already, from a cluster with another state folder."""
    return (Path("/sys/class/net") / f"fettle{index}").exists()


def host_routes(plan: Plan) -> dict[str, str]:
    """Return the host's routes into the cluster: the pods of each node, and all Services."""
    return {node.pod_cidr: node.address for node in plan.nodes} | {plan.service_cidr: plan.first.address}


def node_routes(plan: Plan, node: Node) -> dict[str, str]:
    """Return a node's routes: the pods of the other nodes, and everything else towards the host."""
    others = {other.pod_cidr: other.address for other in plan.nodes if other != node}
    return {"default": plan.host_address, **others}


def cni_configuration(node: Node) -> dict[str, Any]:
    """Return the CNI configuration of a node: pods on a bridge, with addresses out of the node's range."""
    return {
        "cniVersion": "1.0.0",
        "name": cni_network(node),
        "plugins": [
            {
                "type": "bridge",
                "bridge": "cni0",
                "isGateway": True,
                "hairpinMode": True,
                # Every node and the host have routes to all pods, so pods keep their addresses everywhere.
                "ipMasq": False,
                "ipam": {
                    "type": "host-local",
                    "ranges": [[{"subnet": node.pod_cidr}]],
                    "routes": [{"dst": "0.0.0.0/0"}],
                    "dataDir": str(node.run / "cni-addresses"),
                },
            },
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def cni_network(node: Node) -> str:
    """Return the name that the CNI plugins know a node's pod network by."""
    return f"{node.cgroup}-pods"


def _ensure_switch(plan: Plan) -> None:
    _ensure_namespace(plan.switch)
    inside = _ip(plan.switch)
    if _SWITCH not in _devices(plan.switch):
        run([*inside, "link", "add", _SWITCH, "type", "bridge", "stp_state", "0", "forward_delay", "0"])
    if not is_taken(plan.index):
        # A pair whose other half was lost is gone as a whole, so one end tells for both.
        peer = ("peer", "name", plan.device, "netns", str(os.getpid()))
        run([*inside, "link", "add", _HOST_PORT, "type", "veth", *peer])
    for device in (_SWITCH, _HOST_PORT):
        run([*inside, "link", "set", device, "up"])
    run([*inside, "link", "set", _HOST_PORT, "master", _SWITCH])
    run(["ip", "address", "replace", f"{plan.host_address}/24", "dev", plan.device])
    run(["ip", "link", "set", plan.device, "up"])


def _ensure_node(plan: Plan, node: Node) -> None:
    _ensure_namespace(node.namespace)
    inside = _ip(node.namespace)
    switch = _ip(plan.switch)
    if _UPLINK not in _devices(node.namespace):
        peer = ("peer", "name", _UPLINK, "netns", node.namespace)
        run([*switch, "link", "add", node.name, "type", "veth", *peer])
    run([*switch, "link", "set", node.name, "master", _SWITCH, "up"])
    run([*inside, "link", "set", "lo", "up"])
    run([*inside, "address", "replace", f"{node.address}/24", "dev", _UPLINK])
    run([*inside, "link", "set", _UPLINK, "up"])
    for destination, gateway in node_routes(plan, node).items():
        run([*inside, "route", "replace", destination, "via", gateway])
    _set_inside(node.namespace, "net/ipv4/ip_forward", "1")
    # A pod that speaks to itself or its neighbour through a Service: the answer crosses the bridge only, and must
    # still pass the translation that the question went through.
    _ensure_bridge_filter()
    _set_inside(node.namespace, "net/bridge/bridge-nf-call-iptables", "1")


def _ensure_namespace(path: Path) -> None:
    # Not `ip netns add`, which would leave /run/netns mounted on itself for ever.
    if not mounts.below(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        run(["unshare", f"--net={path}", "true"])


def _ip(namespace: Path) -> tuple[str | Path, ...]:
    # Not `ip -n`, which knows only the names under /run/netns.
    return ("nsenter", f"--net={namespace}", "--", "ip")


def _devices(namespace: Path) -> set[str]:
    found = json.loads(output([*_ip(namespace), "-json", "link", "show"]))
    return {device["ifname"] for device in found}


def _ensure_bridge_filter() -> None:
    if not Path("/proc/sys/net/bridge").exists():
        run(["modprobe", "br_netfilter"])


def _set_inside(namespace: Path, key: str, value: str) -> None:
    # /proc/sys/net shows the namespace of whoever looks.
    run(["nsenter", f"--net={namespace}", "--", "tee", f"/proc/sys/{key}"], stdin=value)
