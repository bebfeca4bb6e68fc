"""The configuration of the cluster's programs: nothing of it points outside of the cluster's own folders."""

from __future__ import annotations

import io
import json
import re
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import pytest

from devcluster import addons, containerd, controlplane, helper_images, network, node, pki, registry
from devcluster.certs import KeyPair
from devcluster.pki import Pki
from devcluster.plan import Plan

STATE = Path("/var/lib/fettle-devcluster")
CACHE = Path("/cache")
PLAN = Plan("default", 0, STATE, CACHE, 2, 0)
NODE = PLAN.nodes[1]
# What is read only: the programs and their plugins, and the root of the cgroups below which a node has its own.
SHARED = ("/usr/lib/cni", f"/{NODE.cgroup}", "/bin/sh", "/v2/")


def certificates() -> Pki:
    pair = KeyPair.at(PLAN.pki, "any")
    return Pki(pair, pair, pair, pair, pair, pair, pair, pair)


def every_configuration() -> dict[str, str]:
    return {
        "kubelet": json.dumps(node.kubelet_config(PLAN, NODE)),
        "kubelet flags": "\n".join(node.kubelet_arguments(PLAN, NODE, NODE.state / "kubelet.yaml")),
        "kube-proxy": json.dumps(node.proxy_config(PLAN, NODE)),
        "containerd": containerd.config(NODE),
        "cni": json.dumps(network.cni_configuration(NODE)),
        "registry": json.dumps(registry.config(PLAN)),
        "coredns": addons.corefile(PLAN),
        "etcd": "\n".join(controlplane.etcd_arguments(PLAN, certificates())),
        "kube-apiserver": "\n".join(controlplane.api_server_arguments(PLAN, certificates())),
        "kube-controller-manager": "\n".join(controlplane.controller_manager_arguments(PLAN, certificates())),
        "kube-scheduler": "\n".join(controlplane.scheduler_arguments(PLAN)),
    }


@pytest.mark.parametrize(
    ("program", "text"), every_configuration().items(), ids=lambda value: str(value)[:24]
)
def test_every_path_lies_in_the_clusters_state_or_in_the_cache(program: str, text: str) -> None:
    paths = re.findall(r'(?:(?<=[="\s])|(?<=unix://))/[\w./-]+', text)
    outside = [path for path in paths if not path.startswith((str(STATE), str(CACHE), *SHARED))]
    assert outside == [], program


def test_the_second_node_shares_no_path_with_the_first() -> None:
    first, second = (tomllib.loads(containerd.config(each)) for each in PLAN.nodes)
    assert first["root"] != second["root"]
    assert first["state"] != second["state"]
    assert first["grpc"]["address"] != second["grpc"]["address"]


def test_images_under_the_public_name_come_from_the_local_registry() -> None:
    mirror = tomllib.loads(containerd.mirrors(PLAN)["registry.fettle.dev"])
    assert mirror["host"] == {"http://10.99.0.2:5000": {"capabilities": ["pull", "resolve"]}}


def test_the_api_server_answers_to_every_name_a_client_may_use() -> None:
    identity = pki.api_server_identity(PLAN)
    assert set(identity.addresses) >= {"10.99.0.2", "10.96.0.1", "127.0.0.1"}
    assert "kubernetes.default.svc.cluster.local" in identity.names


def test_the_helper_images_are_the_same_whenever_they_are_made() -> None:
    first, second = (helper_images.archive(b"program", ["sh", "sleep"], "x86_64") for _ in range(2))
    assert first == second
    assert first.digests != helper_images.archive(b"other", ["sh", "sleep"], "x86_64").digests


def test_the_helper_images_hold_what_their_index_names() -> None:
    made = helper_images.archive(b"program", ["sh", "busybox"], "x86_64")
    with tarfile.open(fileobj=io.BytesIO(made.content)) as tar:
        content = {info.name: extracted.read() for info in tar if (extracted := tar.extractfile(info))}
    index = json.loads(content["index.json"])
    assert {entry["annotations"]["io.containerd.image.name"] for entry in index["manifests"]} == set(
        made.digests
    )
    manifest: dict[str, Any] = {}
    for entry in index["manifests"]:
        manifest = json.loads(content["blobs/" + entry["digest"].replace(":", "/")])
        for blob in (manifest["config"], *manifest["layers"]):
            assert len(content["blobs/" + blob["digest"].replace(":", "/")]) == blob["size"]
    with tarfile.open(
        fileobj=io.BytesIO(content["blobs/" + manifest["layers"][0]["digest"].replace(":", "/")])
    ) as tar:
        assert tar.getmember("bin/sh").linkname == "busybox"
        assert tar.getmember("bin/busybox").isfile()
