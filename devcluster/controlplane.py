"""etcd, the API server, the controller manager and the scheduler."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from devcluster import files, processes
from devcluster import pki as identities
from devcluster.plan import API_PORT
from devcluster.processes import Program
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from devcluster.kubeapi import KubeApi
    from devcluster.pki import Pki
    from devcluster.plan import Plan

ETCD = "etcd"
API_SERVER = "kube-apiserver"
_ETCD_URL = "https://127.0.0.1:2379"
_ETCD_PEER_URL = "http://127.0.0.1:2380"
_START_TIMEOUT_S = 60


def start_api(plan: Plan, pki: Pki, programs: Mapping[str, Path]) -> None:
    """Start etcd and the API server, without waiting for them."""
    audit = json.dumps(audit_policy(), indent=2)
    files.write(plan.state / "audit-policy.yaml", audit)
    _run(plan, programs, ETCD, etcd_arguments(plan, pki))
    _run(plan, programs, API_SERVER, api_server_arguments(plan, pki), configuration=audit)


def wait_for_api(plan: Plan, api: KubeApi) -> None:
    """Wait until the API server is ready and its built-in roles exist."""

    def ready() -> bool:
        return api.answers("/readyz") and api.answers(
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node"
        )

    wait_until(
        ready,
        timeout_s=_START_TIMEOUT_S,
        otherwise=lambda: (
            f"the API server at {plan.api_url} is not ready; see {plan.logs / 'kube-apiserver.log'}"
        ),
    )


def start_controllers(plan: Plan, pki: Pki, programs: Mapping[str, Path]) -> None:
    """Start the controller manager and the scheduler; they end at once where the built-in roles do not exist yet."""
    _run(plan, programs, identities.CONTROLLER_MANAGER, controller_manager_arguments(plan, pki))
    _run(plan, programs, identities.SCHEDULER, scheduler_arguments(plan))


def etcd_arguments(plan: Plan, pki: Pki) -> list[str]:
    """Return the arguments of etcd: one member, which speaks only to who has a certificate."""
    return [
        "--name=only",
        f"--data-dir={plan.state / 'etcd'}",
        f"--listen-client-urls={_ETCD_URL}",
        f"--advertise-client-urls={_ETCD_URL}",
        f"--listen-peer-urls={_ETCD_PEER_URL}",
        f"--initial-advertise-peer-urls={_ETCD_PEER_URL}",
        f"--initial-cluster=only={_ETCD_PEER_URL}",
        f"--cert-file={pki.etcd.cert}",
        f"--key-file={pki.etcd.key}",
        f"--trusted-ca-file={pki.etcd_ca.cert}",
        "--client-cert-auth",
        # A power cut may cost this cluster its memory; every write is several times faster for it.
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def api_server_arguments(plan: Plan, pki: Pki) -> list[str]:
    """Return the arguments of the API server."""
    return [
        f"--advertise-address={plan.first.address}",
        f"--secure-port={API_PORT}",
        f"--etcd-servers={_ETCD_URL}",
        f"--etcd-cafile={pki.etcd_ca.cert}",
        f"--etcd-certfile={pki.apiserver_to_etcd.cert}",
        f"--etcd-keyfile={pki.apiserver_to_etcd.key}",
        f"--tls-cert-file={pki.apiserver.cert}",
        f"--tls-private-key-file={pki.apiserver.key}",
        f"--client-ca-file={pki.ca.cert}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki.service_accounts.cert}",
        f"--service-account-signing-key-file={pki.service_accounts.key}",
        f"--service-cluster-ip-range={plan.service_cidr}",
        f"--kubelet-client-certificate={pki.apiserver_to_kubelets.cert}",
        f"--kubelet-client-key={pki.apiserver_to_kubelets.key}",
        f"--kubelet-certificate-authority={pki.ca.cert}",
        # Node names are no host names here, and `logs` and `exec` would look them up.
        "--kubelet-preferred-address-types=InternalIP",
        "--allow-privileged",
        f"--audit-policy-file={plan.state / 'audit-policy.yaml'}",
        f"--audit-log-path={plan.logs / 'audit.log'}",
        "--audit-log-maxsize=50",
        "--audit-log-maxbackup=2",
        "--profiling=false",
    ]


def controller_manager_arguments(plan: Plan, pki: Pki) -> list[str]:
    """Return the arguments of the controller manager."""
    kubeconfig = identities.kubeconfig_of(plan, identities.CONTROLLER_MANAGER)
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        # Its default is a folder of the host, which it would make.
        f"--flex-volume-plugin-dir={plan.first.state / 'volume-plugins'}",
        "--use-service-account-credentials",
        # Every controller asks for a token of its own first, which the defaults stretch over five seconds.
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        f"--root-ca-file={pki.ca.cert}",
        f"--service-account-private-key-file={pki.service_accounts.key}",
        f"--cluster-signing-cert-file={pki.ca.cert}",
        f"--cluster-signing-key-file={pki.ca.key}",
        "--profiling=false",
    ]


def scheduler_arguments(plan: Plan) -> list[str]:
    """Return the arguments of the scheduler."""
    kubeconfig = identities.kubeconfig_of(plan, identities.SCHEDULER)
    return [
        f"--kubeconfig={kubeconfig}",
        f"--authentication-kubeconfig={kubeconfig}",
        f"--authorization-kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--profiling=false",
    ]


def audit_policy() -> dict[str, Any]:
    """Return what the audit log keeps: who did what to which object, without the cluster's own humming."""
    quiet = ["system:nodes", "system:serviceaccounts:kube-system"]
    return {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [
            {"level": "None", "userGroups": quiet, "verbs": ["get", "list", "watch"]},
            {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
            {"level": "None", "nonResourceURLs": ["/healthz*", "/readyz*", "/livez*", "/openapi/*"]},
            {"level": "Metadata"},
        ],
    }


def _run(
    plan: Plan, programs: Mapping[str, Path], name: str, arguments: list[str], *, configuration: str = ""
) -> None:
    program = Program(
        name, (str(programs[name]), *arguments), plan.first.namespace, configuration=configuration
    )
    processes.ensure(plan.state, program, plan.logs)
