"""Fixtures of the tests on a real API server: Fettle's resources installed, and a stage in a fresh namespace."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from devcluster.apiserver import ApiServer
from faults.stage import Stage, eventually, staged

CRDS = Path(__file__).parents[2] / "crds"
_DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture(scope="session")
def installed(apiserver: ApiServer) -> ApiServer:
    """Return the API server with the custom resources established."""
    api = apiserver.api()
    for path in sorted(CRDS.glob("*.yaml")):
        manifest = yaml.safe_load(path.read_text())
        name = manifest["metadata"]["name"]
        api.apply(f"{_DEFINITIONS}/{name}", manifest)
        served = f"/apis/{manifest['spec']['group']}/v1alpha1/{manifest['spec']['names']['plural']}"
        eventually(lambda served=served: api.answers(served), f"{name} served")
    return apiserver


@pytest.fixture
def stage(installed: ApiServer, namespace: str, tmp_path: Path) -> Iterator[Stage]:
    """Return a stage whose verifications succeed; the operator is not started yet."""
    with staged(installed, namespace, tmp_path) as stage:
        yield stage
