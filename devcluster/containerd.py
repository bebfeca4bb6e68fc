"""The container runtime of a node."""

from __future__ import annotations

import json
import platform
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster import files, forgetting, helper_images, network, processes, registry, seeding
from devcluster.packages import BUSYBOX, CNI_PLUGINS
from devcluster.plan import REGISTRY_NAME
from devcluster.processes import Program
from devcluster.shell import output, run
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from devcluster.plan import Node, Plan

_START_TIMEOUT_S = 30
_FORGET_TIMEOUT_S = 300
_CLAIM = "images-claimed"
_CONFIG = """\
version = 2
root = "{root}"
state = "{state}"
# Optional parts that would make folders outside of the cluster's own.
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
  address = "{socket}"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  # Without CAP_SYS_RESOURCE, lowering a container's score ends in runc's "can't get final child's PID from pipe".
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_plugins}"
    conf_dir = "{cni_config}"

  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    # Gigabytes of model libraries lie unpacked already; the packed copy is in the registry.
    discard_unpacked_layers = true
    default_runtime_name = "runc"

    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"

      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        Root = "{runc}"
        SystemdCgroup = false

  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{registries}"
"""
_MIRROR = """\
server = "http://{registry}"

[host."http://{registry}"]
  capabilities = ["pull", "resolve"]
"""


def socket(node: Node) -> Path:
    """Return where a node's containerd listens."""
    return node.run / "containerd.sock"


def name(node: Node) -> str:
    """Return the name of a node's containerd among the cluster's programs."""
    return f"containerd-{node.name}"


def config(node: Node) -> str:
    """Return containerd's configuration file."""
    return _CONFIG.format(
        root=node.images,
        state=node.run / "containerd",
        socket=socket(node),
        pause=helper_images.PAUSE_IMAGE,
        cni_plugins=CNI_PLUGINS,
        cni_config=node.state / "cni",
        runc=node.run / "runc",
        registries=node.state / "registries",
    )


def mirrors(plan: Plan) -> dict[str, str]:
    """Return the registries that are the local one, over plain HTTP, with the file that says so to containerd."""
    text = _MIRROR.format(registry=plan.registry)
    return dict.fromkeys((REGISTRY_NAME, plan.registry), text)


def start(plan: Plan, node: Node) -> None:
    """Start a node's containerd, without waiting for it."""
    for mirrored, text in mirrors(plan).items():
        files.write(node.state / "registries" / mirrored / "hosts.toml", text)
    pods = json.dumps(network.cni_configuration(node), indent=2)
    files.write(node.state / "cni" / "10-pods.conflist", pods)
    node.run.mkdir(parents=True, exist_ok=True)
    seeding.seed(node.images, plan.image_donor)
    node.images.mkdir(parents=True, exist_ok=True)
    file = node.state / "containerd.toml"
    files.write(file, config(node))
    argv = ("containerd", "--config", str(file))
    processes.ensure(
        plan.state, Program(name(node), argv, node.namespace, configuration=config(node)), plan.logs
    )


def finish(plan: Plan, node: Node) -> None:
    """Wait until a node's containerd serves, free of what an earlier cluster left, with the helper images in it."""
    _wait(plan, node)
    claim = node.state / _CLAIM
    if not claim.exists():
        if _forget_containers(node):
            processes.stop([processes.running(plan.state)[name(node)].pid])
            for folder in ("sandboxes", "containers"):
                shutil.rmtree(node.images / "io.containerd.grpc.v1.cri" / folder, ignore_errors=True)
            start(plan, node)
            _wait(plan, node)
        _forget_images(plan, node)
        claim.touch()
    _import_helper_images(node)


def _wait(plan: Plan, node: Node) -> None:
    wait_until(
        lambda: run([*_ctr(node), "version"], check=False).returncode == 0,
        timeout_s=_START_TIMEOUT_S,
        otherwise=lambda: (
            f"containerd of {node.name} does not answer; see {plan.logs / (name(node) + '.log')}"
        ),
    )


def _forget_containers(node: Node) -> bool:
    """Remove the records of containers that an earlier cluster ran; tell whether there were any."""
    ids = output([*_ctr(node), "containers", "list", "--quiet"]).split()
    if ids:
        run([*_ctr(node), "containers", "remove", *ids])
    return bool(ids)


def _forget_images(plan: Plan, node: Node) -> None:
    """Remove images that the registry no longer holds; nothing runs from them, since the cluster is only starting."""
    old = forgetting.forgotten(_listed_images(node), forgetting.tags_in(registry.storage(plan)))
    if old:
        run([*_ctr(node), "images", "remove", "--sync", *old], timeout_s=_FORGET_TIMEOUT_S)


def _listed_images(node: Node) -> list[tuple[str, str]]:
    lines = output([*_ctr(node), "images", "list"]).splitlines()[1:]
    return [(columns[0], columns[2]) for columns in (line.split() for line in lines)]


def _import_helper_images(node: Node) -> None:
    applets = output([BUSYBOX, "--list"]).split()
    archive = helper_images.archive(BUSYBOX.read_bytes(), applets, platform.machine())
    if archive.digests.items() <= dict(_listed_images(node)).items():
        return
    with tempfile.NamedTemporaryFile(suffix=".tar") as file:
        Path(file.name).write_bytes(archive.content)
        run([*_ctr(node), "images", "import", file.name])


def _ctr(node: Node) -> list[str]:
    return ["ctr", "--address", str(socket(node)), "--namespace", "k8s.io"]
