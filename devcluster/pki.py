"""Who is who in a cluster: every key and certificate, and the kubeconfig of every program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from devcluster import certs, kubeconfig
from devcluster.certs import Identity, KeyPair
from devcluster.kubeapi import KubeApi
from devcluster.kubeconfig import Cluster
from devcluster.plan import CLUSTER_DOMAIN

if TYPE_CHECKING:
    from pathlib import Path

    from devcluster.plan import Node, Plan

_LOOPBACK = "127.0.0.1"
ADMIN = "admin"
CONTROLLER_MANAGER = "kube-controller-manager"
SCHEDULER = "kube-scheduler"
PROXY = "kube-proxy"
DNS = "coredns"
STORAGE = "local-path-provisioner"


@dataclass(frozen=True)
class Pki:
    """The certificates of one cluster."""

    ca: KeyPair
    etcd_ca: KeyPair
    etcd: KeyPair
    apiserver: KeyPair
    apiserver_to_etcd: KeyPair
    apiserver_to_kubelets: KeyPair
    service_accounts: KeyPair
    admin: KeyPair


def ensure(plan: Plan) -> Pki:
    """Make what is missing of the keys, certificates and kubeconfigs."""
    folder = plan.pki
    ca = certs.authority(folder, "ca", plan.context)
    etcd_ca = certs.authority(folder, "etcd-ca", f"{plan.context}-etcd")
    pki = Pki(
        ca=ca,
        etcd_ca=etcd_ca,
        etcd=certs.issue(etcd_ca, folder, "etcd", Identity("etcd", addresses=(_LOOPBACK,))),
        apiserver=certs.issue(ca, folder, "kube-apiserver", api_server_identity(plan)),
        apiserver_to_etcd=certs.issue(etcd_ca, folder, "apiserver-to-etcd", Identity("kube-apiserver")),
        apiserver_to_kubelets=certs.issue(
            ca, folder, "apiserver-to-kubelets", Identity("kube-apiserver-kubelet-client", "system:masters")
        ),
        service_accounts=certs.issue(ca, folder, "service-accounts", Identity("service-accounts")),
        admin=certs.issue(ca, folder, ADMIN, Identity(ADMIN, "system:masters")),
    )
    for user in (CONTROLLER_MANAGER, SCHEDULER, PROXY, DNS, STORAGE):
        _ensure_kubeconfig(plan, ca, user, Identity(f"system:{user}"))
    for node in plan.nodes:
        certs.issue(ca, folder, f"kubelet-{node.name}-serving", kubelet_serving_identity(node))
        _ensure_kubeconfig(plan, ca, kubelet(node), Identity(f"system:node:{node.name}", "system:nodes"))
    return pki


def write_admin_kubeconfig(plan: Plan, pki: Pki) -> None:
    """Give the administrator a kubeconfig."""
    kubeconfig.write(plan.kubeconfig, _cluster(plan, pki.ca), ADMIN, pki.admin)


def admin_api(plan: Plan) -> KubeApi:
    """Return a client with administrator rights; the certificates must exist."""
    return KubeApi(plan.api_url, KeyPair.at(plan.pki, "ca").cert, KeyPair.at(plan.pki, ADMIN))


def kubeconfig_of(plan: Plan, user: str) -> Path:
    """Return where the kubeconfig of one of the cluster's programs lies."""
    return plan.pki / f"{user}.kubeconfig"


def kubelet(node: Node) -> str:
    """Return the name of a node's kubelet among the kubeconfigs and programs."""
    return f"kubelet-{node.name}"


def kubelet_serving(plan: Plan, node: Node) -> KeyPair:
    """Return the certificate that a node's kubelet shows to the API server."""
    return KeyPair.at(plan.pki, f"kubelet-{node.name}-serving")


def api_server_identity(plan: Plan) -> Identity:
    """Return the names and addresses that the API server answers to."""
    short = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
    return Identity(
        "kube-apiserver",
        names=(*short, f"kubernetes.default.svc.{CLUSTER_DOMAIN}", "localhost"),
        addresses=(plan.first.address, plan.api_service_address, _LOOPBACK),
        client=False,
    )


def kubelet_serving_identity(node: Node) -> Identity:
    """Return the name and address that a kubelet answers to."""
    return Identity(f"system:node:{node.name}", "system:nodes", (node.address,), (node.name,), client=False)


def _ensure_kubeconfig(plan: Plan, ca: KeyPair, user: str, identity: Identity) -> None:
    pair = certs.issue(ca, plan.pki, user, identity)
    path = kubeconfig_of(plan, user)
    if not path.exists():
        kubeconfig.write(path, _cluster(plan, ca), user, pair)


def _cluster(plan: Plan, ca: KeyPair) -> Cluster:
    return Cluster(plan.context, plan.api_url, ca.cert)
