"""The cluster's own tools, pointed at the cluster that was chosen."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]


def answer(module: str, *arguments: str) -> str:
    """Ask one of the repository's own command lines."""
    return subprocess.run(
        ("python3", "-m", module, *arguments), check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


@dataclass(frozen=True)
class Tools:
    """kubectl and helm as this repository pins them, whatever else is on PATH."""

    namespace: str
    kubectl_program: str
    helm_program: str
    environment: dict[str, str]

    @classmethod
    def of_the_chosen_cluster(cls, namespace: str) -> Tools:
        """Find the tools and the cluster once."""
        return cls(
            namespace,
            answer("devcluster", "which", "kubectl"),
            answer("devcluster", "which", "helm"),
            os.environ | {"KUBECONFIG": answer("clusters", "kubeconfig")},
        )

    def kubectl(self, *arguments: str) -> None:
        """Run kubectl in sight of the user."""
        subprocess.run((self.kubectl_program, *arguments), check=True, env=self.environment)

    def helm(self, *arguments: str) -> None:
        """Run Helm in sight of the user."""
        subprocess.run((self.helm_program, *arguments), check=True, env=self.environment)

    def release_state(self, name: str, namespace: str) -> str:
        """Return what Helm says of a release, such as deployed or pending-upgrade; nothing where there is none."""
        words = (self.helm_program, "list", "--all", "--namespace", namespace, "--output", "json")
        done = subprocess.run(words, check=True, env=self.environment, stdout=subprocess.PIPE, text=True)
        return next((each["status"] for each in json.loads(done.stdout) if each["name"] == name), "")

    def in_namespace(self, *arguments: str) -> None:
        """Run kubectl in the demo's namespace, in sight of the user."""
        self.kubectl("--namespace", self.namespace, *arguments)

    def read(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl in the demo's namespace and return what it prints."""
        return subprocess.run(
            (self.kubectl_program, "--namespace", self.namespace, *arguments),
            check=True,
            env=self.environment,
            input=stdin,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout

    def exists(self, *arguments: str) -> bool:
        """Say whether an object is there."""
        return bool(self.read("get", *arguments, "--ignore-not-found", "--output", "name").strip())
