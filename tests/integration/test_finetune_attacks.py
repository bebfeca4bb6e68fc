"""What a tenant may try with a FineTuneJob, on the real API server: refused at the door, or without effect."""

import json
from typing import Any

import pytest

from devcluster.apiserver import ApiServer
from faults.nodes import Runs
from faults.stage import Stage
from fettle_operator.resources import FINETUNEJOBS, JOBS
from finetune_stage import await_phase, job, playing, prepare

pytestmark = pytest.mark.apiserver

TOKEN = {"name": "hub", "key": "token"}
UNKNOWN: dict[str, dict[str, Any]] = {
    "an image of one's own": {"image": "evil/trainer"},
    "a pod template": {"podTemplate": {"spec": {"serviceAccountName": "admin"}}},
    "environment": {"env": [{"name": "LD_PRELOAD", "value": "/tmp/evil.so"}]},
    "environment from a Secret": {"envFrom": [{"secretRef": {"name": "s"}}]},
    "a runtime class": {"scheduling": {"runtimeClassName": "privileged"}},
    "an account": {"scheduling": {"serviceAccountName": "admin"}},
    "GPUs by hand": {"resources": {"limits": {"nvidia.com/gpu": 8}}},
    "another namespace's model": {"model": {"volume": {"claimName": "c", "path": "p", "namespace": "other"}}},
    "another namespace's Secret": {
        "model": {"huggingFace": {"repo": "a/b", "tokenSecretRef": {**TOKEN, "namespace": "other"}}}
    },
    "another namespace's Adapter": {"model": {"adapterRef": {"name": "a", "namespace": "other"}}},
    "code from the hub": {"model": {"huggingFace": {"repo": "a/b", "trustRemoteCode": True}}},
}
ESCAPES = [
    "..",
    "../x",
    "/etc/passwd",
    "a/../../b",
    "a\u0000b",
    "%2e%2e/x",
    "\u2024\u2024/x",
    "a//b",
    "~/x",
    "$(HOME)",
    ".\\x",
]


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_the_api_does_not_know_is_refused_and_never_kept(
    name: str, installed: ApiServer, namespace: str
) -> None:
    path = FINETUNEJOBS.path(namespace)
    with pytest.raises(Exception, match=r"unknown field|strict decoding"):
        installed.api().request("POST", f"{path}?dryRun=All&fieldValidation=Strict", job(**UNKNOWN[name]))
    kept = installed.api().request("POST", f"{path}?dryRun=All&fieldValidation=Ignore", job(**UNKNOWN[name]))
    for word in ("evil", "admin", "privileged", "other", "nvidia.com/gpu", "trustRemoteCode", "secretRef"):
        assert word not in json.dumps(kept["spec"])


@pytest.mark.parametrize("path", ESCAPES)
def test_no_path_leads_out_of_its_volume(path: str, installed: ApiServer, namespace: str) -> None:
    for spec in (
        {"model": {"volume": {"claimName": "models", "path": path}}},
        {"dataset": {"train": [{"volume": {"claimName": "data", "path": path}}]}},
        {"output": {"adapterName": path}},
    ):
        with pytest.raises(Exception, match="Invalid value"):
            installed.api().request("POST", f"{FINETUNEJOBS.path(namespace)}?dryRun=All", job(**spec))


def test_a_secret_reaches_the_step_that_fetches_as_a_file_and_nobody_else(stage: Stage) -> None:
    canary = "canary-6f2c"
    secret = {"metadata": {"name": "hub"}, "stringData": {"token": canary}}
    stage.api.request("POST", f"/api/v1/namespaces/{stage.namespace}/secrets", secret)
    prepare(stage)
    stage.nodes.play = playing(lambda *_: Runs())
    model = {"huggingFace": {"repo": "team/base", "tokenSecretRef": TOKEN}}
    stage.create(FINETUNEJOBS, job(model=model))
    stage.operator.start()

    await_phase(stage, "tone", "Running")

    check, training = (
        stage.get(JOBS, f"tone-{step}-1")["spec"]["template"]["spec"] for step in ("check", "train")
    )  # type: ignore[index]
    (volume,) = [each for each in check["volumes"] if "secret" in each]
    assert volume["secret"]["secretName"] == "hub"
    mounted = {
        container["name"]: volume["name"] in [mount["name"] for mount in container["volumeMounts"]]
        for container in (*check["initContainers"], *check["containers"])
    }
    assert mounted == {"fetch": True, "trainer": False}
    assert "secret" not in json.dumps(training["volumes"])
    assert "secretKeyRef" not in json.dumps([check, training])
    assert not [each for each in stage.proxy.requests if "/secrets" in each.path]
    written = b"".join(each.body for each in stage.proxy.requests).decode()
    assert canary not in written + stage.operator.log() + stage.operator.metrics()
