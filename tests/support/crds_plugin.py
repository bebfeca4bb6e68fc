"""The fixture `crds`: a real API server that knows Fettle's resources."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from devcluster.apiserver import ApiServer
    from devcluster.kubeapi import KubeApi

CRDS = Path(__file__).parents[2] / "crds"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture(scope="session")
def crds(apiserver: ApiServer) -> ApiServer:
    """Return the API server of this run with the committed CRDs installed and served."""
    api = apiserver.api()
    for file in sorted(CRDS.glob("*.yaml")):
        definition = yaml.safe_load(file.read_text())
        path = f"{_DEFINITIONS}/{definition['metadata']['name']}"
        api.apply(path, definition)
        wait_until(
            lambda path=path: _established(api, path),
            timeout_s=30,
            otherwise=lambda path=path: f"{path} was not established: {api.find(path)}",
        )
    return apiserver


def _established(api: KubeApi, path: str) -> bool:
    found: dict[str, Any] = api.find(path) or {}
    conditions = found.get("status", {}).get("conditions") or []
    return any(
        condition["type"] == "Established" and condition["status"] == "True" for condition in conditions
    )
