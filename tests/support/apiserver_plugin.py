"""Fixtures on a real Kubernetes API: one etcd and kube-apiserver for the whole test run, a namespace for each test."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devcluster import apiserver as devcluster_apiserver
from devcluster import binaries, build
from devcluster.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from devcluster.apiserver import ApiServer

REPOSITORY = Path(__file__).parents[2]
START_TIMEOUT_S = 90


@pytest.fixture(scope="session")
def apiserver(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ApiServer:
    """Return the API server of this test run; the first worker that asks starts it, the others join."""
    build.ensure(binaries.API_SERVER)
    is_worker = hasattr(request.config, "workerinput")
    shared = tmp_path_factory.getbasetemp().parent if is_worker else tmp_path_factory.getbasetemp()
    # Workers are children of the process that runs the whole session. The server must outlive the worker that
    # happens to start it, and must not outlive the session.
    owner = os.getppid() if is_worker else os.getpid()
    folder = shared / "apiserver"
    with (shared / "apiserver.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        server = devcluster_apiserver.find(folder)
        if server is None:
            server = _start(folder, owner, shared / "apiserver.log")
    return server


@pytest.fixture
def namespace(apiserver: ApiServer, request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the name of a fresh namespace, which goes with everything in it when the test ends."""
    words = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:40].strip("-")
    name = f"{words}-{uuid.uuid4().hex[:6]}"
    api = apiserver.api()
    api.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
    yield name
    devcluster_apiserver.delete_namespace(api, name)


def _start(folder: Path, owner: int, log: Path) -> ApiServer:
    with log.open("wb") as handle:
        process = subprocess.Popen(
            [sys.executable, "-m", "devcluster", "apiserver", "--dir", str(folder), "--owner", str(owner)],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=handle,
            stderr=handle,
            start_new_session=True,
        )

    def is_ready() -> bool:
        if process.poll() is not None:
            pytest.fail(f"the API server did not start: {log.read_text()}")
        return devcluster_apiserver.find(folder) is not None

    wait_until(
        is_ready,
        timeout_s=START_TIMEOUT_S,
        otherwise=lambda: f"the API server was not ready: {log.read_text()}",
    )
    server = devcluster_apiserver.find(folder)
    assert server is not None
    return server
