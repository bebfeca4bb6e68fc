"""What a workload and its owner may expect of the embedded cluster, on two nodes."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest

from devcluster.addons import STORAGE_CLASS
from devcluster.helper_images import BUSYBOX_IMAGE
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from cluster_plugin import Cluster

pytestmark = pytest.mark.cluster
NODES = ("node1", "node2")
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pod(name: str, script: str, **spec: Any) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": BUSYBOX_IMAGE,
        "command": ["sh", "-c", script],
        "securityContext": RESTRICTED,
        **spec.pop("container", {}),
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": spec.pop("app", name)}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [container],
            "restartPolicy": "Never",
            **spec,
        },
    }


def apply(cluster: Cluster, *objects: dict[str, Any]) -> None:
    content = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})
    cluster.kubectl("apply", "-f", "-", stdin=content)


def wait_ready(cluster: Cluster, *names: str) -> None:
    cluster.kubectl("wait", "--for=condition=Ready", "--timeout=60s", *(f"pod/{name}" for name in names))


@pytest.fixture(scope="module")
def servers(scratch_cluster: Cluster) -> Cluster:
    """Run a web server on each node, which answers with the node's name, behind one Service."""
    volume = {"volumes": [{"name": "www", "emptyDir": {}}]}
    container = {"volumeMounts": [{"name": "www", "mountPath": "/www"}]}
    pods = [
        pod(
            f"server-{node}",
            f"echo {node} > /www/index.html; exec httpd -f -p 8080 -h /www",
            nodeName=node,
            app="server",
            container=container,
            **volume,
        )
        for node in NODES
    ]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "server"}, "ports": [{"port": 80, "targetPort": 8080}]},
    }
    apply(scratch_cluster, *pods, service)
    wait_ready(scratch_cluster, *(f"server-{node}" for node in NODES))
    return scratch_cluster


def wait_until_both_answer(who: str, ask: Callable[[], str]) -> None:
    """Ask the Service until both nodes' pods answer: a node's proxy hears of a ready pod a little later."""
    heard: set[str] = set()

    def both_answered() -> bool:
        heard.update(ask().split())
        return heard == set(NODES)

    wait_until(both_answered, timeout_s=30, every_s=0.5, otherwise=lambda: f"{who} reaches only {heard}")


@pytest.mark.parametrize("node", NODES)
def test_a_pod_reaches_the_pods_of_both_nodes_through_one_service_by_name(
    servers: Cluster, node: str
) -> None:
    script = "for i in $(seq 40); do wget -qO- http://web.default.svc.cluster.local; done"
    wait_until_both_answer(
        f"a pod of {node}", lambda: servers.kubectl("exec", f"server-{node}", "--", "sh", "-c", script)
    )


def test_the_host_reaches_the_pods_of_both_nodes_through_one_service(servers: Cluster) -> None:
    address = servers.kubectl("get", "service", "web", "-o", "jsonpath={.spec.clusterIP}")
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    wait_until_both_answer("the host", lambda: direct.open(f"http://{address}", timeout=5).read().decode())


def test_a_pod_sees_another_nodes_pod_under_its_own_address(servers: Cluster) -> None:
    addresses = {
        node: servers.kubectl("get", "pod", f"server-{node}", "-o", "jsonpath={.status.podIP}")
        for node in NODES
    }
    servers.kubectl("exec", "server-node1", "--", "sh", "-c", f"wget -qO- http://{addresses['node2']}:8080")
    seen = servers.kubectl("exec", "server-node2", "--", "sh", "-c", "netstat -tn")
    assert addresses["node1"] in seen


def test_a_name_outside_the_cluster_is_refused_at_once(servers: Cluster) -> None:
    done = servers.try_kubectl("exec", "server-node1", "--", "nslookup", "example.org")
    assert "NXDOMAIN" in done.stdout + done.stderr


def test_a_pod_that_is_not_root_writes_to_a_volume_of_the_default_class_and_another_reads_it(
    scratch_cluster: Cluster,
) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    volume = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}
    container = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    done = ("wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s")
    apply(scratch_cluster, claim, pod("writer", "echo kept > /data/file", container=container, **volume))
    scratch_cluster.kubectl(*done, "pod/writer")
    apply(scratch_cluster, pod("reader", "cat /data/file", container=container, **volume))
    scratch_cluster.kubectl(*done, "pod/reader")
    assert scratch_cluster.kubectl("logs", "reader") == "kept\n"
    assert (
        scratch_cluster.kubectl("get", "pvc", "data", "-o", "jsonpath={.spec.storageClassName}")
        == STORAGE_CLASS
    )


def test_a_namespace_that_enforces_restricted_refuses_a_privileged_pod(scratch_cluster: Cluster) -> None:
    scratch_cluster.kubectl("create", "namespace", "strict")
    scratch_cluster.kubectl("label", "namespace", "strict", "pod-security.kubernetes.io/enforce=restricted")
    bad = pod("bad", "true", container={"securityContext": {"privileged": True}})
    refused = scratch_cluster.try_kubectl("apply", "-n", "strict", "-f", "-", stdin=json.dumps(bad))
    assert "violates PodSecurity" in refused.stderr
    good = pod("good", "true")
    accepted = scratch_cluster.try_kubectl("apply", "-n", "strict", "-f", "-", stdin=json.dumps(good))
    assert accepted.returncode == 0, accepted.stderr


def test_a_kubelet_may_change_its_own_node_but_not_what_keeps_pods_apart(scratch_cluster: Cluster) -> None:
    as_node1 = ("--kubeconfig", str(scratch_cluster.plan.pki / "kubelet-node1.kubeconfig"))
    own = scratch_cluster.try_kubectl(*as_node1, "label", "node/node1", "tried=yes")
    assert own.returncode == 0, own.stderr
    guarded = scratch_cluster.try_kubectl(
        *as_node1, "label", "node/node1", "node-restriction.kubernetes.io/a=b"
    )
    assert "is not allowed to modify labels" in guarded.stderr
    other = scratch_cluster.try_kubectl(*as_node1, "label", "node/node2", "tried=yes")
    assert "only its own Node object" in other.stderr


def test_pods_that_ask_for_gpus_run_until_the_nodes_have_no_more(scratch_cluster: Cluster) -> None:
    def asking(name: str, count: int) -> dict[str, Any]:
        limits = {"resources": {"limits": {"nvidia.com/gpu": str(count)}}}
        return pod(name, "sleep 1000", container=limits)

    apply(scratch_cluster, asking("gpus-a", 4), asking("gpus-b", 4))
    wait_ready(scratch_cluster, "gpus-a", "gpus-b")
    apply(scratch_cluster, asking("gpus-c", 1))
    scratch_cluster.kubectl(
        "wait",
        "--for=jsonpath={.status.conditions[?(@.type=='PodScheduled')].reason}=Unschedulable",
        "pod/gpus-c",
    )
    message = scratch_cluster.kubectl(
        "get", "pod", "gpus-c", "-o", "jsonpath={.status.conditions[0].message}"
    )
    assert "Insufficient nvidia.com/gpu" in message
    scratch_cluster.kubectl("delete", "pod", "gpus-a", "gpus-b", "gpus-c", "--wait=false")


def test_the_audit_log_says_who_did_what(scratch_cluster: Cluster) -> None:
    scratch_cluster.kubectl("create", "configmap", "watched")
    entries = [
        json.loads(line) for line in (scratch_cluster.plan.logs / "audit.log").read_text().splitlines()
    ]
    created = [
        entry
        for entry in entries
        if entry["verb"] == "create" and entry.get("objectRef", {}).get("name") == "watched"
    ]
    assert [entry["user"]["username"] for entry in created] == ["admin"]


def test_an_image_pushed_to_the_local_registry_runs_under_its_public_name(scratch_cluster: Cluster) -> None:
    push_busybox(scratch_cluster, "devcluster-test", "pushed")
    image = "registry.fettle.dev/devcluster-test:pushed"
    apply(scratch_cluster, pod("pulled", "echo it runs", nodeName="node2", container={"image": image}))
    scratch_cluster.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s", "pod/pulled")
    assert scratch_cluster.kubectl("logs", "pulled") == "it runs\n"


def push_busybox(cluster: Cluster, name: str, tag: str) -> None:
    first = cluster.plan.first
    ctr = ["ctr", "--address", str(first.run / "containerd.sock"), "--namespace", "k8s.io", "images"]
    target = f"{cluster.registry}/{name}:{tag}"
    for command in (
        ["tag", "--force", BUSYBOX_IMAGE, target],
        ["push", "--plain-http", target],
        ["remove", target],
    ):
        subprocess.run([*ctr, *command], check=True, capture_output=True)
