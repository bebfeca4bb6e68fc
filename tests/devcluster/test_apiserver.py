"""The API-server-only mode, through the fixtures that every integration test uses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from devcluster import apiserver as api_only
from devcluster.errors import DevclusterError
from devcluster.kubeapi import ApiError
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from devcluster.apiserver import ApiServer

pytestmark = pytest.mark.apiserver
REPOSITORY = Path(__file__).parents[2]

DEFINITION: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "pebbles.devcluster.test"},
    "spec": {
        "group": "devcluster.test",
        "scope": "Namespaced",
        "names": {"plural": "pebbles", "singular": "pebble", "kind": "Pebble"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
                },
            }
        ],
    },
}


def test_deleting_a_namespace_takes_objects_with_finalizers_along(apiserver: ApiServer) -> None:
    api = apiserver.api()
    name = "doomed"
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    held = {"metadata": {"name": "held", "finalizers": ["devcluster.test/held"]}}
    api.request("POST", f"/api/v1/namespaces/{name}/configmaps", held)
    api.apply("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/pebbles.devcluster.test", DEFINITION)
    pebbles = f"/apis/devcluster.test/v1/namespaces/{name}/pebbles"
    wait_until(
        lambda: api.answers(pebbles), timeout_s=10, otherwise=lambda: "the custom resource is not served"
    )
    api.request("POST", pebbles, {"apiVersion": "devcluster.test/v1", "kind": "Pebble", **held})

    api_only.delete_namespace(api, name)

    assert api.find(f"/api/v1/namespaces/{name}") is None
    everywhere = [
        item["metadata"]["namespace"]
        for path in ("/api/v1/configmaps", "/apis/devcluster.test/v1/pebbles")
        for item in api.request("GET", path)["items"]
    ]
    assert name not in everywhere


def test_the_token_and_the_client_certificate_are_the_administrator(
    apiserver: ApiServer, namespace: str
) -> None:
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"verb": "*", "resource": "*", "namespace": namespace}},
    }
    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
    assert apiserver.api().request("POST", path, review)["status"]["allowed"]


def test_a_server_that_is_killed_takes_its_programs_along_and_its_folder_can_be_used_again(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "server"
    command = [sys.executable, "-m", "devcluster", "apiserver", "--dir", str(folder)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL) as first:
        wait_until(
            lambda: api_only.find(folder) is not None,
            timeout_s=60,
            otherwise=lambda: "the server was not ready",
        )
        programs = children_of(first.pid)
        first.send_signal(signal.SIGKILL)
    assert len(programs) == 2
    wait_until(
        lambda: not any(is_running(program) for program in programs),
        timeout_s=10,
        otherwise=lambda: f"still running after their supervisor was killed: {programs}",
    )
    with api_only.running(folder) as server:
        assert server.api().answers("/readyz")
    assert not folder.exists()


def test_a_folder_with_foreign_files_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(DevclusterError, match="not empty"), api_only.running(tmp_path):
        pass
    assert (tmp_path / "precious").read_text() == "mine"


def test_an_error_of_the_api_carries_its_code_and_message(apiserver: ApiServer) -> None:
    with pytest.raises(ApiError, match="not found") as caught:
        apiserver.api().request("GET", "/api/v1/namespaces/absent")
    assert caught.value.status == 404


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
