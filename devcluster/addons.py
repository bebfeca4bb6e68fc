"""What a cluster offers beyond the bare Kubernetes: names (CoreDNS) and volumes (local-path-provisioner)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from devcluster import files, helper_images, pki, processes
from devcluster.plan import CLUSTER_DOMAIN
from devcluster.processes import Program

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devcluster.kubeapi import KubeApi
    from devcluster.plan import Plan

STORAGE_NAMESPACE = "local-path-storage"
STORAGE_CLASS = "standard"
"""kind's name for the same thing, so that a manifest works on both."""
_PROVISIONER = "rancher.io/local-path"
_COREFILE = """\
{domain} in-addr.arpa ip6.arpa {{
    bind {address}
    errors
    health 127.0.0.1:8180
    ready 127.0.0.1:8181
    cache 2
    kubernetes {domain} in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        pods verified
        ttl 2
    }}
}}
# No other name can be reached from here; a clear answer saves its asker the wait.
. {{
    bind {address}
    errors
    template ANY ANY {{
        rcode NXDOMAIN
    }}
}}
"""


def start(plan: Plan, api: KubeApi, programs: Mapping[str, Path]) -> None:
    """Bring the add-ons' objects up to date and start their programs, without waiting for them."""
    for path, manifest in (*dns_objects(plan), *storage_objects(plan)):
        api.apply(path, manifest)
    text = corefile(plan)
    file = plan.state / "Corefile"
    files.write(file, text)
    dns = (str(programs["coredns"]), "-conf", str(file))
    storage = (
        str(programs["local-path-provisioner"]),
        "start",
        "--kubeconfig",
        str(pki.kubeconfig_of(plan, pki.STORAGE)),
        "--provisioner-name",
        _PROVISIONER,
        "--namespace",
        STORAGE_NAMESPACE,
        "--service-account-name",
        "default",
        "--helper-image",
        helper_images.BUSYBOX_IMAGE,
    )
    settings = json.dumps(storage_settings(plan))
    for program in (
        Program(pki.DNS, dns, plan.first.namespace, configuration=text),
        Program(pki.STORAGE, storage, plan.first.namespace, configuration=settings),
    ):
        processes.ensure(plan.state, program, plan.logs)


def corefile(plan: Plan) -> str:
    """Return CoreDNS's configuration file."""
    return _COREFILE.format(
        domain=CLUSTER_DOMAIN, address=plan.first.address, kubeconfig=pki.kubeconfig_of(plan, pki.DNS)
    )


def dns_objects(plan: Plan) -> list[tuple[str, dict[str, Any]]]:
    """Return the DNS Service, which leads to CoreDNS's process, and what CoreDNS may read; each with its API path."""
    ports = [
        {"name": "dns", "port": 53, "protocol": "UDP"},
        {"name": "dns-tcp", "port": 53, "protocol": "TCP"},
    ]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": plan.dns_service_address, "ports": ports},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns",
            "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [plan.first.address]}],
        "ports": ports,
    }
    rules = [
        {"apiGroups": [""], "resources": ["services", "pods", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    return [
        ("/api/v1/namespaces/kube-system/services/kube-dns", service),
        ("/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices/kube-dns", endpoints),
        *_rights(f"system:{pki.DNS}", rules),
    ]


def storage_settings(plan: Plan) -> dict[str, str]:
    """Return the provisioner's settings: where volumes lie, and how one is made and removed."""
    nodes = [{"node": "DEFAULT_PATH_FOR_NON_LISTED_NODES", "paths": [str(plan.state / "volumes")]}]
    helper = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "helper-pod"},
        "spec": {
            "priorityClassName": "system-node-critical",
            "tolerations": [
                {"key": "node.kubernetes.io/disk-pressure", "operator": "Exists", "effect": "NoSchedule"}
            ],
            "containers": [
                {
                    "name": "helper-pod",
                    "image": helper_images.BUSYBOX_IMAGE,
                    "imagePullPolicy": "IfNotPresent",
                }
            ],
        },
    }
    return {
        "config.json": json.dumps({"nodePathMap": nodes}),
        # World-writable, as kind's are: pods that are not root must be able to write.
        "setup": '#!/bin/sh\nset -eu\nmkdir -m 0777 -p "$VOL_DIR"\n',
        "teardown": '#!/bin/sh\nset -eu\nrm -rf "$VOL_DIR"\n',
        "helperPod.yaml": json.dumps(helper),
    }


def storage_objects(plan: Plan) -> list[tuple[str, dict[str, Any]]]:
    """Return the default StorageClass and what its provisioner needs; each with its API path."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": STORAGE_NAMESPACE,
            "labels": {"pod-security.kubernetes.io/enforce": "privileged"},
        },
    }
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": _PROVISIONER,
        "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete",
    }
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "local-path-config", "namespace": STORAGE_NAMESPACE},
        "data": storage_settings(plan),
    }
    read = ["get", "list", "watch"]
    write = [*read, "create", "patch", "update", "delete"]
    core = ["nodes", "persistentvolumeclaims", "configmaps", "pods/log"]
    rules = [
        {"apiGroups": [""], "resources": core, "verbs": read},
        {"apiGroups": [""], "resources": ["persistentvolumes", "pods"], "verbs": write},
        {"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]},
        {"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses"], "verbs": read},
    ]
    return [
        (f"/api/v1/namespaces/{STORAGE_NAMESPACE}", namespace),
        (f"/apis/storage.k8s.io/v1/storageclasses/{STORAGE_CLASS}", storage_class),
        (f"/api/v1/namespaces/{STORAGE_NAMESPACE}/configmaps/local-path-config", settings),
        *_rights(f"system:{pki.STORAGE}", rules),
    ]


def _rights(user: str, rules: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    group = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{group}/v1", "kind": "ClusterRole", "metadata": {"name": user}, "rules": rules}
    binding = {
        "apiVersion": f"{group}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
        "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
    }
    return [
        (f"/apis/{group}/v1/clusterroles/{user}", role),
        (f"/apis/{group}/v1/clusterrolebindings/{user}", binding),
    ]
