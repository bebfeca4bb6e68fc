"""Kubeconfig files: whole in themselves, so that a copy works wherever the API server can be reached."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from devcluster.certs import KeyPair

_TEMPLATE = """\
apiVersion: v1
kind: Config
current-context: {name}
clusters:
- name: {name}
  cluster:
    server: {server}
    certificate-authority-data: {ca}
users:
- name: {user}
  user:
    client-certificate-data: {cert}
    client-key-data: {key}
contexts:
- name: {name}
  context:
    cluster: {name}
    user: {user}
"""


@dataclass(frozen=True)
class Cluster:
    """A cluster as a kubeconfig names it."""

    name: str
    server: str
    ca: Path


def render(cluster: Cluster, user: str, pair: KeyPair) -> str:
    """Return a kubeconfig with one cluster, one user and one context."""
    return _TEMPLATE.format(
        name=cluster.name,
        server=cluster.server,
        user=user,
        ca=_encoded(cluster.ca),
        cert=_encoded(pair.cert),
        key=_encoded(pair.key),
    )


def write(path: Path, cluster: Cluster, user: str, pair: KeyPair) -> Path:
    """Write a kubeconfig that only its owner can read, in one step."""
    unfinished = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
        handle.write(render(cluster, user, pair))
    unfinished.rename(path)
    return path


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
