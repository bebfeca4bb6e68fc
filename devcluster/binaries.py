"""The Go programs a cluster is made of, and where each one lies once it is built.

The versions stand in the `go.mod` files under `devcluster/go`; this module only says which program comes from which.
Programs that share much of their code share a `go.mod`, hence one version of every library, which is compiled once.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from devcluster.errors import DevclusterError
from devcluster.paths import cache_root

if TYPE_CHECKING:
    from collections.abc import Iterable

GO_FOLDER = Path(__file__).parent / "go"


@dataclass(frozen=True)
class GoModule:
    """Programs of one origin, all built by one `go build`."""

    name: str
    requirement: str
    """The Go module whose version is the version of the programs."""
    packages: dict[str, str] = field(hash=False)
    """Program name to Go package."""
    stamps: tuple[str, ...] = ()
    """Linker stamps; `{version}`, `{major}` and `{minor}` are filled in."""
    shares: str | None = None
    """The folder of the `go.mod` that it shares with others; left out: its own."""

    @property
    def folder(self) -> Path:
        """The folder with the module's go.mod and go.sum."""
        return GO_FOLDER / (self.shares or self.name)

    @property
    def version(self) -> str:
        """The pinned version, read from go.mod."""
        return required_version((self.folder / "go.mod").read_text(), self.requirement)

    @property
    def ldflags(self) -> str:
        """Return the linker flags: no debug information, and the version where the program wants to be told."""
        major, minor, _ = self.version.removeprefix("v").split(".", 2)
        stamps = [
            f"-X {stamp.format(version=self.version, major=major, minor=minor)}" for stamp in self.stamps
        ]
        return " ".join(["-s", "-w", *stamps])

    @property
    def key(self) -> str:
        """Return the name of the module's folder in the cache: it changes whenever a built program would."""
        digest = hashlib.sha256()
        # Our own `main` of a program, where there is one, lies beside its go.mod.
        ours = [self.folder / package / "main.go" for package in self.packages.values() if package[0] == "."]
        files = (self.folder / "go.mod", self.folder / "go.sum", *ours)
        for part in (*(file.read_bytes() for file in files), self.ldflags.encode(), self.name.encode()):
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()[:16]


CLUSTER_GRAPH = "cluster"
# The order is the order of the build: others wait for etcd and the API server.
MODULES = (
    GoModule(
        "etcd",
        "go.etcd.io/etcd/server/v3",
        {"etcd": "go.etcd.io/etcd/server/v3"},
        shares=CLUSTER_GRAPH,
    ),
    GoModule(
        "kubernetes",
        "k8s.io/kubernetes",
        {
            name: f"k8s.io/kubernetes/cmd/{name}"
            for name in (
                "kube-apiserver",
                "kubectl",
                "kube-controller-manager",
                "kube-scheduler",
                "kubelet",
                "kube-proxy",
            )
        },
        stamps=(
            "k8s.io/component-base/version.gitVersion={version}",
            "k8s.io/component-base/version.gitMajor={major}",
            "k8s.io/component-base/version.gitMinor={minor}",
        ),
        shares=CLUSTER_GRAPH,
    ),
    GoModule(
        "helm",
        "helm.sh/helm/v3",
        {"helm": "helm.sh/helm/v3/cmd/helm"},
        stamps=(
            "helm.sh/helm/v3/internal/version.version={version}",
            # What `helm template` takes for the cluster when it sees none; as in Helm's own builds, that of its client.
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMajor=1",
            "helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=34",
        ),
        shares=CLUSTER_GRAPH,
    ),
    # Their own `main`s name every cloud there is; ours name what is used here, and half as much is compiled.
    GoModule("registry", "github.com/distribution/distribution/v3", {"registry": "."}),
    GoModule("coredns", "github.com/coredns/coredns", {"coredns": "./coredns"}, shares=CLUSTER_GRAPH),
    GoModule(
        "local-path-provisioner",
        "github.com/rancher/local-path-provisioner",
        {"local-path-provisioner": "github.com/rancher/local-path-provisioner"},
        shares=CLUSTER_GRAPH,
    ),
    GoModule(
        "kubeconform",
        "github.com/yannh/kubeconform",
        {"kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform"},
    ),
    GoModule(
        "kube-score",
        "github.com/zegl/kube-score",
        {"kube-score": "github.com/zegl/kube-score/cmd/kube-score"},
    ),
    GoModule("kind", "sigs.k8s.io/kind", {"kind": "sigs.k8s.io/kind"}),
)

API_SERVER = ("etcd", "kube-apiserver")
CLUSTER = (
    "etcd",
    "kube-apiserver",
    "kubectl",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "registry",
    "coredns",
    "local-path-provisioner",
)


def names() -> list[str]:
    """Return every program's name, in build order."""
    return [name for module in MODULES for name in module.packages]


def module_of(name: str) -> GoModule:
    """Return the module that builds a program."""
    for module in MODULES:
        if name in module.packages:
            return module
    raise DevclusterError(f"devcluster builds no program named {name!r}; it builds {', '.join(names())}")


def path(name: str, cache: Path | None = None) -> Path:
    """Return where a program lies once it is built."""
    return folder_of(module_of(name), cache) / name


def folder_of(module: GoModule, cache: Path | None = None) -> Path:
    """Return the cache folder of a module's programs."""
    return (cache or cache_root()) / "bin" / module.key


def group_by_module(wanted: Iterable[str]) -> list[tuple[GoModule, list[str]]]:
    """Group programs by the `go build` that makes them, in build order."""
    chosen = {name: module_of(name) for name in wanted}
    return [
        (module, members)
        for module in MODULES
        if (members := [name for name in module.packages if chosen.get(name) is module])
    ]


def required_version(go_mod: str, requirement: str) -> str:
    """Read a module's version from the text of a go.mod."""
    found = re.search(rf"^(?:require)?\s+{re.escape(requirement)} (v\S+)", go_mod, re.MULTILINE)
    if found is None:
        raise DevclusterError(f"go.mod does not require {requirement}")
    return found.group(1)
