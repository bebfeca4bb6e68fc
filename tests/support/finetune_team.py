"""A team that trains on a real cluster: its namespace, model, data and jobs, and the Fettle that serves it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from devcluster import cluster as devcluster
from devcluster.waiting import wait_until
from helm_chart import CHART, ROOT, program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster_plugin import Cluster

HOME = "finetune-test-system"
TEAM = "finetune-test"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
DATA = ROOT / "examples" / "train-on-a-laptop"
PATIENCE_S = 900.0
"""An interpreter with torch starts slowly on two busy cores, and each attempt starts one."""


class Team:
    """The namespace in which a team trains."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the team's namespace."""
        return self.cluster.kubectl("--namespace", TEAM, *arguments, stdin=stdin)

    def apply(self, *manifests: dict[str, Any]) -> None:
        """Apply objects."""
        self.kubectl("apply", "--filename", "-", stdin=yaml.safe_dump_all(manifests))

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return an object."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "--output", "json"))
        return found

    def status(self, name: str) -> dict[str, Any]:
        """Return a job's status."""
        status: dict[str, Any] = self.get("finetunejob", name).get("status", {})
        return status

    def ready(self, name: str) -> dict[str, Any]:
        """Return a job's condition Ready."""
        found = self.status(name).get("conditions", [])
        return next((each for each in found if each["type"] == "Ready"), {})

    def await_end(self, name: str) -> dict[str, Any]:
        """Wait until a job is over; return its status."""
        wait_until(
            lambda: self.status(name).get("phase") in {"Succeeded", "Failed"},
            timeout_s=PATIENCE_S,
            every_s=1.0,
            otherwise=lambda: f"{name} is not over: {json.dumps(self.status(name), indent=1)}",
        )
        return self.status(name)


def finetunejob(name: str, data: str = "train.jsonl", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "fettle.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": name},
        "spec": {
            "model": {"volume": {"claimName": "models", "path": "shop"}},
            "dataset": {
                "train": [{"configMap": {"name": "tickets", "key": data}}],
                "validation": [{"configMap": {"name": "tickets", "key": "validation.jsonl"}}],
            },
            "training": {
                "maxSteps": 10,
                "batchSize": 8,
                "maxLength": 128,
                "learningRate": 0.002,
                "logEvery": 1,
            },
            "evaluation": {"metrics": ["loss"], "samples": 0},
            "output": {"store": {"claimName": "results"}},
            **spec,
        },
    }


def base_model(image: str) -> tuple[dict[str, Any], ...]:
    """Return what makes the model that all jobs here start from: the example's, learned less well in less time."""
    volume, job = yaml.safe_load_all((ROOT / "examples" / "base-model" / "base-model.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["image"] = image
    container["args"] += ["--steps", "10"]
    container["resources"]["requests"] = {"cpu": "500m", "memory": "1Gi"}
    return volume, job


def config_map() -> dict[str, Any]:
    rows = (DATA / "train.jsonl").read_text().splitlines()
    broken = [*rows[:5], rows[5][:-3], *rows[6:20]]
    data = {
        "train.jsonl": "\n".join(rows[:200]) + "\n",
        "broken.jsonl": "\n".join(broken) + "\n",
        "validation.jsonl": "\n".join((DATA / "validation.jsonl").read_text().splitlines()[:8]) + "\n",
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "tickets"}, "data": data}


@contextmanager
def settled(cluster: Cluster, shared: Path | None = None) -> Iterator[Team]:
    """Lend a namespace with Fettle, a base model and data; all of it goes at the end.

    `shared` is a folder of this machine for volumes that every node mounts; without it each claim is one node's.
    """
    made = Team(cluster)
    # What a run that was cut off may have left.
    cluster.kubectl("delete", "namespace", TEAM, "--ignore-not-found", "--wait", "--timeout=150s")
    for name, labels in ((HOME, {}), (TEAM, RESTRICTED)):
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        cluster.kubectl("apply", "--filename", "-", stdin=yaml.safe_dump(namespace))
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "--filename", str(ROOT / "crds"))
    helm(
        cluster,
        *("upgrade", "--install", "fettle", str(CHART), "--values", str(ROOT / "build" / "images.yaml")),
        *(
            "--set",
            f"watchNamespaces={{{TEAM}}}",
            "--set",
            "crds.enabled=false,userRoles.enabled=false,secretPolicy.enabled=false",
        ),
        *("--wait", "--timeout", "5m"),
    )
    models, make_base = base_model(trainer_image())
    results = {**models, "metadata": {"name": "results"}}
    for manifest in (models, results):
        name = manifest["metadata"]["name"]
        made.apply(*(volume_on_the_host(name, shared / name) if shared else (manifest,)))
    made.apply(config_map(), make_base)
    wait_until(
        lambda: made.get("job", "make-base")["status"].get("succeeded") == 1,
        timeout_s=PATIENCE_S,
        every_s=1.0,
        otherwise=lambda: f"no base model: {made.kubectl('describe', 'job,pod')}",
    )
    yield made
    made.kubectl("delete", "finetunejobs,jobs", "--all", "--wait=false")
    wait_until(
        lambda: not made.get("adapters")["items"], timeout_s=120, every_s=1, otherwise=lambda: "adapters stay"
    )
    helm(cluster, "uninstall", "fettle", "--wait")
    cluster.kubectl("delete", "namespace", HOME, TEAM, "--wait", "--timeout=150s")
    remove_unowned_crds(cluster)


def remove_unowned_crds(cluster: Cluster) -> None:
    """Remove the kinds that no release owns: Helm refuses to install over them."""
    found = json.loads(cluster.kubectl("get", "crds", "--output", "json"))["items"]
    ours = [each for each in found if each["spec"]["group"] == "fettle.dev"]
    names = [
        each["metadata"]["name"]
        for each in ours
        if each["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") != "Helm"
    ]
    if names:
        cluster.kubectl("delete", "crds", *names, "--wait", "--timeout=60s")


def helm(cluster: Cluster, *arguments: str) -> None:
    environment = os.environ | {"KUBECONFIG": str(cluster.kubeconfig)}
    words = [program("helm"), "--namespace", HOME, *arguments]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr


def trainer_image() -> str:
    """Return the image that the chart gives the profile cpu."""
    words = [
        program("helm"),
        "template",
        "fettle",
        str(CHART),
        "--values",
        str(ROOT / "build" / "images.yaml"),
    ]
    rendered = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    config = next(
        each
        for each in yaml.safe_load_all(rendered)
        if each and each["kind"] == "ConfigMap" and "config.yaml" in each.get("data", {})
    )
    image: str = yaml.safe_load(config["data"]["config.yaml"])["profiles"]["cpu"]["images"]["trainer"]
    return image


def kill_processes_of(team: Team, job: str) -> int:
    """Kill every process of a Job's pods from the node, as the kernel would."""
    pods = team.get("pods", "--selector", f"batch.kubernetes.io/job-name={job}")["items"]
    uids = {pod["metadata"]["uid"] for pod in pods}
    killed = 0
    for cgroup in Path("/proc").glob("[0-9]*/cgroup"):
        with suppress(OSError):
            text = cgroup.read_text()
            command = (cgroup.parent / "cmdline").read_text()
            ours = any(uid in text or uid.replace("-", "_") in text for uid in uids)
            if ours and "fettle_trainer" in command:
                os.kill(int(cgroup.parent.name), signal.SIGKILL)
                killed += 1
    return killed


def mend(cluster: Cluster) -> None:
    """Start the programs of the cluster that somebody has killed."""
    devcluster.up(cluster.plan.instance, nodes=None, fake_gpus=None)


def folder_of_claim(team: Team, name: str) -> Path:
    """Return where the files of a claim lie on this machine."""
    volume = team.get("pvc", name)["spec"]["volumeName"]
    spec = json.loads(team.cluster.kubectl("get", "pv", volume, "--output", "json"))["spec"]
    return Path(spec.get("hostPath", spec.get("local"))["path"])


def volume_on_the_host(name: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a volume over a folder of this machine, and a claim that gets it and nothing else."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, 10001, 10001)
    size, mode = {"storage": "64Mi"}, ["ReadWriteMany"]
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": size,
            "accessModes": mode,
            "storageClassName": "",
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder), "type": "Directory"},
            "claimRef": {"namespace": TEAM, "name": name},
        },
    }
    spec = {
        "accessModes": mode,
        "storageClassName": "",
        "volumeName": name,
        "resources": {"requests": size},
    }
    return volume, {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": spec,
    }


def forget_volume(team: Team, name: str) -> None:
    """Remove a claim and its volume; the files stay."""
    team.kubectl("delete", "pvc", name, "--ignore-not-found", "--wait=false")
    team.cluster.kubectl("delete", "pv", name, "--ignore-not-found", "--wait=false")
