"""A kind cluster in Docker or Podman, with a registry container beside it.

The nodes pull `registry.fettle.dev/…` from that registry: kind-config.yaml makes their containerd look into a folder
for mirrors, and the mirror is written into it here. Pushing to a registry sends only the layers that changed, while
`kind load` would send gigabytes to every node each time.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from clusters.programs import REPOSITORY, answers, ask, call, find, must

if TYPE_CHECKING:
    from pathlib import Path

    from clusters.choice import Engine

NAME = "fettle"
CONFIG = REPOSITORY / "kind-config.yaml"
IMAGE_REGISTRY = "registry.fettle.dev"
REGISTRY_CONTAINER = "fettle-registry"
REGISTRY_IMAGE = "docker.io/library/registry:3.0.0"
REGISTRY_VOLUME = "fettle-registry"
PUSH_ADDRESS = "localhost:5001"
_MIRRORS = f"/etc/containerd/certs.d/{IMAGE_REGISTRY}"


class KindCluster:
    """The kind cluster `fettle`."""

    def __init__(self, engine: Engine, state: Path) -> None:
        self._engine = engine
        self._kubeconfig = state / "kind.kubeconfig"
        # kind prefers Docker when it finds both.
        os.environ["KIND_EXPERIMENTAL_PROVIDER"] = engine

    def up(self, *, nodes: int, fake_gpus: int) -> None:  # noqa: ARG002 (kind-config.yaml says how many nodes)
        """Create it if it is not there, and connect it to its registry."""
        kind = find("kind")
        self._kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        if NAME in ask([kind, "get", "clusters"]).splitlines():
            must([kind, "export", "kubeconfig", "--name", NAME, "--kubeconfig", self._kubeconfig])
        else:
            create = [kind, "create", "cluster", "--name", NAME, "--config", str(CONFIG), "--wait", "180s"]
            must([*create, "--kubeconfig", self._kubeconfig])
        self.registry()
        self._connect_registry()
        for node in ask([kind, "get", "nodes", "--name", NAME]).split():
            script = f"mkdir -p {_MIRRORS} && cat > {_MIRRORS}/hosts.toml"
            ask([self._engine, "exec", "-i", node, "sh", "-c", script], stdin=mirror_file())
        if fake_gpus:
            self._advertise_gpus(fake_gpus)

    def down(self) -> None:
        """Remove the cluster and its registry; the registry's volume stays, as a cache of images."""
        must([find("kind"), "delete", "cluster", "--name", NAME, "--kubeconfig", self._kubeconfig])
        if self._registry_exists():
            ask([self._engine, "rm", "--force", REGISTRY_CONTAINER])
        self._kubeconfig.unlink(missing_ok=True)

    def status(self) -> int:
        """Print its nodes."""
        return call([find("kubectl"), f"--kubeconfig={self._kubeconfig}", "get", "nodes"])

    def kubeconfig(self) -> Path:
        """Return the path of a kubeconfig of its own; the user's own one is never written to."""
        return self._kubeconfig

    def registry(self) -> str:
        """Start the registry container if it does not run, and return the address to push to."""
        if self._registry_exists():
            ask([self._engine, "start", REGISTRY_CONTAINER])
        else:
            port = f"--publish=127.0.0.1:{PUSH_ADDRESS.rpartition(':')[2]}:5000"
            storage = f"--volume={REGISTRY_VOLUME}:/var/lib/registry"
            name = f"--name={REGISTRY_CONTAINER}"
            ask([self._engine, "run", "--detach", name, port, storage, REGISTRY_IMAGE])
        return PUSH_ADDRESS

    def _registry_exists(self) -> bool:
        return answers([self._engine, "container", "inspect", REGISTRY_CONTAINER])

    def _connect_registry(self) -> None:
        networks = "--format={{json .NetworkSettings.Networks}}"
        connected = json.loads(ask([self._engine, "container", "inspect", networks, REGISTRY_CONTAINER]))
        if "kind" not in connected:
            ask([self._engine, "network", "connect", "kind", REGISTRY_CONTAINER])

    def _advertise_gpus(self, count: int) -> None:
        patch = json.dumps({"status": {"capacity": {"nvidia.com/gpu": str(count)}}})
        kubectl = [find("kubectl"), f"--kubeconfig={self._kubeconfig}"]
        for node in ask([*kubectl, "get", "nodes", "--output=name"]).split():
            ask([*kubectl, "patch", node, "--subresource=status", "--type=merge", f"--patch={patch}"])


def mirror_file() -> str:
    """Return containerd's file that sends pulls of our images to the registry container."""
    return (
        f'server = "https://{IMAGE_REGISTRY}"\n\n'
        f'[host."http://{REGISTRY_CONTAINER}:5000"]\n'
        'capabilities = ["pull", "resolve"]\n'
    )
