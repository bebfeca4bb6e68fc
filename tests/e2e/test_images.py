"""The images on a real cluster: unprivileged, read-only, complete, small where it matters, and cheap to change."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devcluster.paths import cache_root
from images import base, host
from images.builder import Buildah, Recipe, buildah
from images.catalog import IMAGES, Image
from images.dockerfile import sources
from images.programs import ask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster_plugin import Cluster

pytestmark = pytest.mark.cluster
ROOT = Path(__file__).resolve().parents[2]
STORAGE = cache_root() / "images"
OPERATOR_ADDS_AT_MOST_MB = 150
# The first pull of the model stack moves gigabytes.
PULL_TIMEOUT_S = 600

# Prints what the container finds out about itself.
LOOK = """
import importlib, importlib.util, json, os, shutil, sys
wanted, unwanted, programs, leftovers = json.loads(sys.argv[1])
def import_error(name):
    try:
        importlib.import_module(name)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
def writable(folder):
    try:
        open(f"{folder}/probe", "w").close()
    except OSError:
        return False
    return True
print("RESULT" + json.dumps({
    "uid": os.getuid(),
    "gid": os.getgid(),
    "writable": [folder for folder in ("/", "/opt/fettle", "/opt/venv", "/tmp") if writable(folder)],
    "broken": {name: error for name in wanted if (error := import_error(name))},
    "unwanted": [name for name in unwanted if importlib.util.find_spec(name)],
    "missing_programs": [name for name in programs if not shutil.which(name)],
    "leftovers": [name for name in leftovers if os.path.exists(name)],
    "bytecode": all(os.path.exists(importlib.util.cache_from_source(importlib.util.find_spec(name).origin))
                    for name in wanted[:2]),
}))
"""
WANTED: dict[str, list[str]] = {
    "operator": ["fettle_operator", "kopf", "fettle_trainer.config", "aiohttp", "pydantic"],
    "router": ["fettle_router", "pydantic", "yaml"],
    "server": [
        "fettle_server",
        "torch",
        "transformers",
        "peft",
        "fettle_server.serve",
        "uvloop",
        "httptools",
    ],
    "trainer": ["fettle_trainer", "torch", "transformers", "peft", "deepspeed", "bitsandbytes", "accelerate"],
}
UNWANTED: dict[str, list[str]] = {
    "operator": ["torch", "transformers", "kubernetes", "fettle_server", "pip", "uv"],
    "router": ["torch", "fettle_operator", "fettle_trainer", "pip", "uv"],
    "server": ["deepspeed", "kopf", "fettle_trainer.train", "fettle_trainer.data", "pip"],
    "trainer": ["kopf", "kubernetes", "fettle_operator", "pip"],
}
PROGRAMS = {"router": ["haproxy"], "trainer": ["g++", "ninja"]}
# Where the machine that built the image keeps its own mirrors, indexes and certificates.
LEFTOVERS = [
    "/etc/pip.conf",
    "/etc/uv/uv.toml",
    "/etc/apt/apt.conf.d/99-build",
    "/run/secrets/ca",
    "/opt/tools",
]


@pytest.fixture(scope="module")
def references(cluster: Cluster) -> dict[str, str]:  # noqa: ARG001 (the registry belongs to the cluster)
    """Return the images' full names, all of them in the cluster's registry."""
    names = ask([sys.executable, "-m", "images", "build", "--push"]).splitlines()
    return {name.rpartition("/")[2].partition(":")[0]: name for name in names}


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    name = "images-test"
    cluster.kubectl("delete", "namespace", name, "--ignore-not-found")
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("image", [image.name for image in IMAGES])
def test_an_image_runs_unprivileged_and_read_only_and_holds_what_its_part_needs(
    cluster: Cluster, namespace: str, references: dict[str, str], image: str
) -> None:
    question = [WANTED[image], UNWANTED[image], PROGRAMS.get(image, []), LEFTOVERS]
    cluster.kubectl(
        "--namespace",
        namespace,
        "apply",
        "-f",
        "-",
        stdin=json.dumps(_pod(image, references[image], question)),
    )
    _wait_until_ended(cluster, namespace, image)
    log = cluster.kubectl("--namespace", namespace, "logs", image)
    (answer,) = [line.removeprefix("RESULT") for line in log.splitlines() if line.startswith("RESULT")]
    assert json.loads(answer) == {
        "uid": 10001,
        "gid": 10001,
        "writable": ["/tmp"],
        "broken": {},
        "unwanted": [],
        "missing_programs": [],
        "leftovers": [],
        "bytecode": True,
    }


def test_the_operators_image_adds_little_to_its_base(references: dict[str, str]) -> None:
    reference = references["operator"]
    added = _size_mb(reference) - _size_mb(_base_of(reference))
    assert added <= OPERATOR_ADDS_AT_MOST_MB


@pytest.mark.parametrize("image", IMAGES, ids=lambda image: image.name)
def test_a_change_of_code_makes_one_new_layer(
    references: dict[str, str], tmp_path: Path, image: Image
) -> None:
    text = (ROOT / image.dockerfile).read_text()
    for source in sources(text, image.name):
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / source)
        else:
            (tmp_path / source).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / source, tmp_path / source)
    shutil.copy2(ROOT / image.dockerfile, tmp_path / image.dockerfile)
    shutil.copy2(ROOT / ".dockerignore", tmp_path / ".dockerignore")
    (module,) = tmp_path.glob(f"*/src/fettle_{image.name}/__init__.py")
    module.write_text(module.read_text() + f"\nCHANGED = {time.time()}\n")

    builder = Buildah(STORAGE)
    changed = f"localhost/fettle-test-{image.name}:changed"
    # Without the machine's own set-up: a step that is made again fails where only a private mirror is reachable,
    # and gives another layer everywhere else.
    secrets = host.write_secrets(host.secrets(host.look()), tmp_path)
    arguments = {"BASE_IMAGE": _base_of(references[image.name])}
    builder.build(
        Recipe(
            f"changed {image.name}", str(tmp_path / image.dockerfile), changed, image.name, arguments, secrets,
            str(tmp_path),
        )
    )  # fmt: skip
    try:
        before, after = _layers(references[image.name]), _layers(changed)
        assert after[:-1] == before[:-1]
        assert after[-1] != before[-1]
    finally:
        ask([*buildah(STORAGE), "rmi", changed])


def _pod(name: str, reference: str, question: list[list[str]]) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": reference,
        "command": ["python", "-c", LOOK, json.dumps(question)],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


def _wait_until_ended(cluster: Cluster, namespace: str, name: str) -> None:
    deadline = time.monotonic() + PULL_TIMEOUT_S
    while time.monotonic() < deadline:
        pod = json.loads(cluster.kubectl("--namespace", namespace, "get", "pod", name, "--output=json"))
        if pod["status"]["phase"] in {"Succeeded", "Failed"}:
            assert pod["status"]["phase"] == "Succeeded", cluster.kubectl(
                "--namespace", namespace, "logs", name
            )
            return
        waiting = [state["state"].get("waiting", {}) for state in pod["status"].get("containerStatuses", [])]
        if any(state.get("reason") in {"ErrImagePull", "ImagePullBackOff"} for state in waiting):
            break
        time.sleep(0.5)
    pytest.fail(cluster.kubectl("--namespace", namespace, "describe", "pod", name))


def _inspect(reference: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ask([*buildah(STORAGE), "inspect", "--type", "image", reference]))
    return found


def _layers(reference: str) -> list[str]:
    layers: list[str] = _inspect(reference)["OCIv1"]["rootfs"]["diff_ids"]
    return layers


def _base_of(reference: str) -> str:
    """Return the base that an image was made on: the one whose layers it begins with."""
    layers = _layers(reference)
    for candidate in (base.own_name(), base.PUBLISHED):
        if Buildah(STORAGE).has(candidate):
            below = _layers(candidate)
            if layers[: len(below)] == below:
                return candidate
    pytest.fail(f"{reference} stands on none of the known base images")


def _size_mb(reference: str) -> float:
    number, unit = ask([*buildah(STORAGE), "images", "--format", "{{.Size}}", reference]).split()
    return float(number) * {"KB": 0.001, "MB": 1, "GB": 1000}[unit]
