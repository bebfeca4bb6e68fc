"""What a tenant may try with a FineTuneJob, on the real API server: refused at the door, or without effect."""

import copy
import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from devcluster.apiserver import ApiServer
from devcluster.kubeapi import KubeApi
from faults.nodes import Runs
from faults.stage import Stage, adapter, eventually
from faults.upstream import tls
from fettle_operator.resources import ADAPTERS, FINETUNEJOBS, JOBS, ApiResource
from finetune_stage import await_phase, job, playing, prepare
from helm_chart import of_kind, render

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


NAMING: dict[str, tuple[ApiResource, dict[str, Any]]] = {
    "the model": (FINETUNEJOBS, {"model": {"huggingFace": {"repo": "a/b", "tokenSecretRef": TOKEN}}}),
    "the data": (
        FINETUNEJOBS,
        {"dataset": {"train": [{"huggingFace": {"repo": "a/b", "tokenSecretRef": TOKEN}}]}},
    ),
    "the tracker": (
        FINETUNEJOBS,
        {"tracking": {"mlflow": {"trackingUri": "https://evil.example.com", "tokenSecretRef": TOKEN}}},
    ),
    "the base of an Adapter": (
        ADAPTERS,
        {"baseModel": {"huggingFace": {"repo": "a/b", "tokenSecretRef": TOKEN}}},
    ),
}


REFUSAL = "you may not read every Secret yourself that tokenSecretRef names"


def test_who_may_not_read_a_secret_may_not_name_it(installed: ApiServer, namespace: str) -> None:
    """The operator would mount it: into a pod that talks to whatever address the object names."""
    api, tenant = installed.api(), f"tenant-of-{namespace}"
    _enforce_secret_policy(api, namespace)
    rules = [{"apiGroups": ["fettle.dev"], "resources": ["finetunejobs", "adapters"], "verbs": ["create"]}]
    _bind(api, namespace, tenant, "editor", rules)

    operator = "system:serviceaccount:fettle-system:fettle-operator"
    _bind(api, namespace, operator, "operator", rules)

    def attempt(what: str, name: str = "hub", user: str = tenant) -> str:
        resource, spec = NAMING[what]
        text = json.dumps(job(**spec) if resource == FINETUNEJOBS else adapter_with(spec))
        body = json.loads(text.replace('"name": "hub"', f'"name": "{name}"'))
        return _tried_as(installed, user, f"{resource.path(namespace)}?dryRun=All", body)

    # A policy is in force some moments after it was made.
    eventually(lambda: REFUSAL in attempt("the model"), "the policy is in force")
    for what in NAMING:
        assert f"{REFUSAL}: hub;" in attempt(what), what
    assert attempt("the base of an Adapter", user=operator) == "", (
        "it writes what its job's user was asked about"
    )
    named = [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["hub"], "verbs": ["get"]}]
    _bind(api, namespace, tenant, "reader", named)
    for what in NAMING:
        eventually(lambda what=what: attempt(what) == "", f"{what} may name it")
        assert f"{REFUSAL}: other;" in attempt(what, "other")


def adapter_with(spec: dict[str, Any]) -> dict[str, Any]:
    made = adapter()
    return {**made, "spec": {**made["spec"], **spec}}


def _tried_as(server: ApiServer, user: str, path: str, body: dict[str, Any]) -> str:
    """Create an object as a user; return what the server complained about."""
    headers = {"Content-Type": "application/json", "Impersonate-User": user}
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), headers, method="POST")  # noqa: S310 - our own https address
    try:
        urllib.request.urlopen(request, context=tls(server), timeout=20).close()  # noqa: S310 - as above
    except urllib.error.HTTPError as error:
        return str(json.loads(error.read())["message"])
    return ""


def _enforce_secret_policy(api: KubeApi, namespace: str) -> None:
    """Install the chart's policy under a name of its own, for one namespace: other tests share the server."""
    group = "/apis/admissionregistration.k8s.io/v1"
    policy, binding = (
        copy.deepcopy(of_kind(render(), kind)[0])
        for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    )
    for manifest in (policy, binding):
        manifest["metadata"]["name"] = namespace
    selector = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    binding["spec"] |= {"policyName": namespace, "matchResources": {"namespaceSelector": selector}}
    api.request("POST", f"{group}/validatingadmissionpolicies", policy)
    api.request("POST", f"{group}/validatingadmissionpolicybindings", binding)


def _bind(api: KubeApi, namespace: str, user: str, name: str, rules: list[dict[str, Any]]) -> None:
    group = "rbac.authorization.k8s.io"
    path = f"/apis/{group}/v1/namespaces/{namespace}"
    api.request("POST", f"{path}/roles", {"metadata": {"name": name}, "rules": rules})
    subject = {"apiGroup": group, "kind": "User", "name": user}
    reference = {"apiGroup": group, "kind": "Role", "name": name}
    binding = {"metadata": {"name": name}, "roleRef": reference, "subjects": [subject]}
    api.request("POST", f"{path}/rolebindings", binding)


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
