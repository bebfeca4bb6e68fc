"""A Kubernetes API without nodes: etcd and kube-apiserver on loopback, for tests that need the real API.

It needs no root. One process supervises the two programs and ends with its owner; the programs end with the
supervisor, even when that is killed. There is no controller: nothing schedules, collects garbage or finishes the
deletion of a namespace (`delete_namespace` does that for tests).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from devcluster import build, certs, kubeconfig
from devcluster.binaries import API_SERVER
from devcluster.certs import Identity, KeyPair
from devcluster.errors import DevclusterError
from devcluster.kubeapi import ApiError, KubeApi
from devcluster.kubeconfig import Cluster
from devcluster.shell import last_words
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 5
ATTEMPTS = 3
_HOST = "127.0.0.1"
_MARKER = ".fettle-apiserver"
_DESCRIPTION = "apiserver.json"


@dataclass(frozen=True)
class ApiServer:
    """Where a running API server is, and how to speak to it as an administrator."""

    url: str
    kubeconfig: Path
    ca: Path
    client_cert: Path
    client_key: Path
    token: str

    def api(self) -> KubeApi:
        """Return a client with administrator rights."""
        return KubeApi(self.url, self.ca, KeyPair(self.client_cert, self.client_key))

    def to_json(self) -> str:
        """Return the description that `find` reads."""
        return json.dumps({name: str(value) for name, value in asdict(self).items()}, indent=2)

    @classmethod
    def from_json(cls, text: str) -> ApiServer:
        """Read a description."""
        content: Mapping[str, str] = json.loads(text)
        paths = {name: Path(content[name]) for name in ("kubeconfig", "ca", "client_cert", "client_key")}
        return cls(url=content["url"], token=content["token"], **paths)


def find(folder: Path) -> ApiServer | None:
    """Return the server that runs in a folder, or None until it is ready."""
    try:
        return ApiServer.from_json((folder / _DESCRIPTION).read_text())
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def running(folder: Path) -> Iterator[ApiServer]:
    """Run an API server in a folder of its own; the folder is gone afterwards."""
    programs = build.ensure(API_SERVER)
    children: list[subprocess.Popen[bytes]] = []
    with _claimed(folder), _removed_at_the_end(folder, children):
        pki = _Pki(folder / "pki")
        server = _start_with_retries(folder, pki, programs, children)
        unfinished = folder / f"{_DESCRIPTION}.new"
        unfinished.write_text(server.to_json())
        unfinished.rename(folder / _DESCRIPTION)
        yield server


def wait_for_owner(owner: int) -> None:
    """Return when the owner has ended, or when this process is asked to end."""
    reading, writing = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: os.write(writing, b"."))
    try:
        watched = os.pidfd_open(owner)
    except ProcessLookupError:
        return
    waiting = select.poll()
    waiting.register(watched, select.POLLIN)
    waiting.register(reading, select.POLLIN)
    waiting.poll()


def delete_namespace(api: KubeApi, name: str) -> None:
    """Delete a namespace and everything in it, as the namespace controller would, without waiting for finalizers."""
    api.delete(f"/api/v1/namespaces/{name}")
    for resource in namespaced_resources(_discover(api)):
        base = f"{resource.prefix}/namespaces/{name}/{resource.plural}"
        try:
            api.delete(f"{base}?propagationPolicy=Background&gracePeriodSeconds=0")
            leftovers = api.request("GET", base)["items"]
        except ApiError as error:
            # A definition of a custom resource can go away between the discovery and its use.
            if error.status == 404:
                continue
            raise
        for leftover in leftovers:
            _drop_finalizers(api, f"{base}/{leftover['metadata']['name']}")
    found = api.find(f"/api/v1/namespaces/{name}")
    if found is not None:
        api.request("PUT", f"/api/v1/namespaces/{name}/finalize", {**found, "spec": {"finalizers": []}})


@dataclass(frozen=True)
class Resource:
    """A namespaced resource whose objects can be deleted together."""

    prefix: str
    plural: str


def namespaced_resources(discovery: Sequence[Mapping[str, Any]]) -> list[Resource]:
    """Read the deletable namespaced resources, each in its preferred version, from aggregated discovery documents."""
    found = []
    for document in discovery:
        for group in document["items"]:
            name = group["metadata"].get("name", "")
            version = group["versions"][0]
            prefix = f"/apis/{name}/{version['version']}" if name else f"/api/{version['version']}"
            found += [
                Resource(prefix, resource["resource"])
                for resource in version.get("resources", [])
                if resource["scope"] == "Namespaced" and "deletecollection" in resource["verbs"]
            ]
    return found


def _discover(api: KubeApi) -> list[Mapping[str, Any]]:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    return [api.request("GET", path, accept=accept) for path in ("/api", "/apis")]


def _drop_finalizers(api: KubeApi, path: str) -> None:
    try:
        api.request(
            "PATCH", path, {"metadata": {"finalizers": None}}, content_type="application/merge-patch+json"
        )
    except ApiError as error:
        if error.status != 404:
            raise


class _Pki:
    """The keys and certificates of one API server on loopback."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.ca = certs.authority(folder, "ca", "fettle-apiserver")
        serving = Identity("kube-apiserver", addresses=(_HOST,), names=("localhost",), client=False)
        self.serving = certs.issue(self.ca, folder, "serving", serving)
        self.admin = certs.issue(self.ca, folder, "admin", Identity("admin", "system:masters"))
        self.service_accounts = certs.issue(self.ca, folder, "service-accounts", Identity("service-accounts"))
        self.token = secrets.token_hex(16)
        self.tokens = folder / "tokens.csv"
        self.tokens.write_text(f'{self.token},admin,admin,"system:masters"\n')


def etcd_arguments(*, data: Path, client_port: int, peer_port: int) -> list[str]:
    """Return etcd's arguments: one member on loopback that forgets everything when it ends."""
    client, peer = f"http://{_HOST}:{client_port}", f"http://{_HOST}:{peer_port}"
    return [
        "--name=only",
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=only={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def _apiserver_arguments(pki: _Pki, *, etcd_port: int, port: int) -> list[str]:
    return [
        f"--etcd-servers=http://{_HOST}:{etcd_port}",
        f"--bind-address={_HOST}",
        f"--secure-port={port}",
        f"--tls-cert-file={pki.serving.cert}",
        f"--tls-private-key-file={pki.serving.key}",
        f"--client-ca-file={pki.ca.cert}",
        f"--token-auth-file={pki.tokens}",
        "--authorization-mode=RBAC",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki.service_accounts.cert}",
        f"--service-account-signing-key-file={pki.service_accounts.key}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--allow-privileged",
        # No controller makes the default service account of a namespace, so pods may come without one.
        "--disable-admission-plugins=ServiceAccount",
        # The `kubernetes` Service would need an address that is not loopback.
        "--endpoint-reconciler-type=none",
        "--profiling=false",
    ]


def _start_with_retries(
    folder: Path, pki: _Pki, programs: Mapping[str, Path], children: list[subprocess.Popen[bytes]]
) -> ApiServer:
    # Another process may take a port between its choice and its use.
    for _ in range(ATTEMPTS - 1):
        try:
            return _start(folder, pki, programs, children)
        except DevclusterError:
            _stop(children)
    return _start(folder, pki, programs, children)


def _start(
    folder: Path, pki: _Pki, programs: Mapping[str, Path], children: list[subprocess.Popen[bytes]]
) -> ApiServer:
    etcd_port, peer_port, port = _free_ports(3)
    data = folder / "etcd"
    shutil.rmtree(data, ignore_errors=True)
    etcd = etcd_arguments(data=data, client_port=etcd_port, peer_port=peer_port)
    children.append(_spawn([str(programs["etcd"]), *etcd], folder / "etcd.log"))
    arguments = _apiserver_arguments(pki, etcd_port=etcd_port, port=port)
    children.append(_spawn([str(programs["kube-apiserver"]), *arguments], folder / "kube-apiserver.log"))

    url = f"https://{_HOST}:{port}"
    server = ApiServer(
        url=url,
        kubeconfig=kubeconfig.write(
            folder / "kubeconfig", Cluster("fettle-apiserver", url, pki.ca.cert), "admin", pki.admin
        ),
        ca=pki.ca.cert,
        client_cert=pki.admin.cert,
        client_key=pki.admin.key,
        token=pki.token,
    )
    api = server.api()
    wait_until(
        lambda: (
            _all_alive(children, folder)
            and api.answers("/readyz")
            and api.answers("/api/v1/namespaces/default")
        ),
        timeout_s=START_TIMEOUT_S,
        otherwise=lambda: f"the API server was not ready in {START_TIMEOUT_S} s: {_log_end(folder)}",
    )
    return server


def _all_alive(children: Sequence[subprocess.Popen[bytes]], folder: Path) -> bool:
    if all(child.poll() is None for child in children):
        return True
    raise DevclusterError(f"the API server ended while it started: {_log_end(folder)}")


def _log_end(folder: Path) -> str:
    return " | ".join(last_words(log.read_text(errors="replace"), 2) for log in sorted(folder.glob("*.log")))


def _spawn(command: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    # setpriv makes the kernel kill the program when this process dies, however it dies.
    with log.open("ab") as handle:
        return subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            start_new_session=True,
        )


def _stop(children: list[subprocess.Popen[bytes]]) -> None:
    for child in reversed(children):
        # Nothing here is worth an orderly end: the data go with the folder.
        child.kill()
        child.wait(STOP_TIMEOUT_S)
    children.clear()


@contextlib.contextmanager
def _claimed(folder: Path) -> Iterator[None]:
    """Take a folder that is new, or left behind by a server that was killed."""
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARKER).exists():
        raise DevclusterError(f"{folder} is not empty; name a folder that does not exist yet")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _MARKER).open("w") as marker:
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DevclusterError(f"another API server runs in {folder}; name a folder of its own") from error
        for leftover in folder.iterdir():
            if leftover.is_dir():
                shutil.rmtree(leftover)
            elif leftover.name != _MARKER:
                leftover.unlink()
        yield


@contextlib.contextmanager
def _removed_at_the_end(folder: Path, children: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    try:
        yield
    finally:
        _stop(children)
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind((_HOST, 0))
        return [listener.getsockname()[1] for listener in listeners]
