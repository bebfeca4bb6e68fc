"""A stage for one test: a namespace, the operator in it, the proxy between, the witness and the stub beside."""

import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from devcluster.apiserver import ApiServer
from devcluster.kubeapi import KubeApi
from faults.background import Background
from faults.nodes import Ends, NodeStub, Play
from faults.operator_process import OperatorProcess, configuration
from faults.proxy import FaultProxy
from faults.rules import Rule
from faults.upstream import Upstream
from faults.witness import Witness
from fettle_operator.rbac import RULES
from fettle_operator.resources import ADAPTERS, CLAIMS, JOBS, ApiResource

__all__ = ["DIGEST", "REPORT", "Stage", "adapter", "eventually", "staged", "verified"]

T = TypeVar("T")
DEADLINE_S = 120.0
"""Generous: the machine may be busy with other things, and nothing waits longer than it has to."""
DIGEST = "sha256:" + "a" * 64
REPORT: dict[str, Any] = {
    "outcome": "verified",
    "adapter": {
        "digest": DIGEST,
        "sizeBytes": 1234,
        "method": "lora",
        "rank": 8,
        "alpha": 16,
        "targetModules": ["q_proj", "v_proj"],
        "baseModel": "example/base",
        "fileCount": 2,
        "tensorCount": 4,
        "hasManifest": False,
        "files": [{"path": "adapter_config.json", "sha256": "b" * 64, "sizeBytes": 12}],
    },
}


def verified(_: dict[str, Any]) -> Ends:
    """Let every verification find a sound adapter."""
    return Ends(0, json.dumps(REPORT))


def serving(name: str, adapter_name: str) -> dict[str, Any]:
    """Return an InferenceDeployment of an adapter."""
    return {
        "apiVersion": "fettle.dev/v1alpha1",
        "kind": "InferenceDeployment",
        "metadata": {"name": name},
        "spec": {
            "model": {"huggingFace": {"repo": "example/base"}},
            "adapter": {"adapterRef": {"name": adapter_name}},
            "profile": "cpu",
        },
    }


def adapter(name: str = "tuned", **source: Any) -> dict[str, Any]:
    """Return an Adapter on a volume, unless another source is named."""
    return {
        "apiVersion": "fettle.dev/v1alpha1",
        "kind": "Adapter",
        "metadata": {"name": name},
        "spec": {"source": source or {"volume": {"claimName": "store", "path": "adapters/tuned"}}},
    }


def eventually(look: Callable[[], T | None], what: str, timeout_s: float = DEADLINE_S) -> T:
    """Return the first true result of `look`; fail with a sentence when there is none in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.03)
    raise AssertionError(f"{what}: not within {timeout_s:g} s")


@dataclass(frozen=True)
class Stage:
    """Everything that a test of the operator on a real API server needs."""

    api: KubeApi
    namespace: str
    background: Background
    proxy: FaultProxy
    witness: Witness
    nodes: NodeStub
    operator: OperatorProcess

    def create(self, resource: ApiResource, manifest: dict[str, Any]) -> dict[str, Any]:
        """Create an object in the namespace."""
        made: dict[str, Any] = self.api.request(
            "POST", resource.path(self.namespace), copy.deepcopy(manifest)
        )
        return made

    def get(self, resource: ApiResource, name: str) -> dict[str, Any] | None:
        """Return an object, or None."""
        return self.api.find(resource.path(self.namespace, name))

    def items(self, resource: ApiResource) -> list[dict[str, Any]]:
        """Return all objects of a kind."""
        found: list[dict[str, Any]] = self.api.request("GET", resource.path(self.namespace))["items"]
        return found

    def patch(
        self, resource: ApiResource, name: str, change: dict[str, Any], subresource: str | None = None
    ) -> None:
        """Change an object as an administrator."""
        path = resource.path(self.namespace, name, subresource)
        self.api.request("PATCH", path, change, content_type="application/merge-patch+json")

    def delete(self, resource: ApiResource, name: str) -> None:
        """Delete an object as an administrator, at once: nothing here does a Job's default, orphaning."""
        self.api.request("DELETE", resource.path(self.namespace, name), {"propagationPolicy": "Background"})

    def claim(self, name: str = "store") -> None:
        """Create the claim that adapters lie on."""
        resources = {"requests": {"storage": "1Gi"}}
        spec = {"accessModes": ["ReadWriteOnce"], "resources": resources}
        self.create(CLAIMS, {"metadata": {"name": name}, "spec": spec})

    def condition(self, name: str, wanted: str, resource: ApiResource = ADAPTERS) -> dict[str, Any] | None:
        """Return one condition of an object as it is stored."""
        found = self.get(resource, name) or {}
        conditions = found.get("status", {}).get("conditions", [])
        return next((condition for condition in conditions if condition["type"] == wanted), None)

    def await_condition(
        self,
        name: str,
        wanted: str,
        reason: str,
        resource: ApiResource = ADAPTERS,
        timeout_s: float = DEADLINE_S,
    ) -> dict[str, Any]:
        """Wait until a condition has the reason; return it."""

        def look() -> dict[str, Any] | None:
            found = self.condition(name, wanted, resource)
            return found if found and found["reason"] == reason else None

        try:
            return eventually(look, f"condition {wanted} of {name} with reason {reason}", timeout_s)
        except AssertionError as error:
            log = self.operator.log()[-3000:] if self.operator.log_path.exists() else ""
            raise AssertionError(
                f"{error}; it is {self.condition(name, wanted, resource)}; log:\n{log}"
            ) from None

    def await_gone(self, resource: ApiResource, name: str) -> None:
        """Wait until an object does not exist."""
        eventually(lambda: self.get(resource, name) is None, f"{resource.kind} {name} gone")

    def await_ready_operator(self) -> None:
        """Wait until the operator has listed everything."""
        eventually(lambda: self.operator.probe("/readyz") == 200, f"operator ready; {self.operator.log_path}")

    def await_quiet(self, seconds: float) -> None:
        """Wait until the operator has written nothing for so long."""
        count, since = -1, time.monotonic()

        def look() -> bool:
            nonlocal count, since
            now = time.monotonic()
            if len(self.proxy.writes()) != count:
                count, since = len(self.proxy.writes()), now
            return now - since >= seconds

        eventually(look, f"no write for {seconds:g} s")

    def rule(self, rule: Rule) -> Rule:
        """Add a rule to the proxy."""
        self.proxy.rules.append(rule)
        return rule

    def jobs(self) -> list[dict[str, Any]]:
        """Return the verification Jobs."""
        return self.items(JOBS)


@contextmanager
def staged(
    server: ApiServer, namespace: str, folder: Path, play: Play = verified, **config: Any
) -> Iterator[Stage]:
    """Set the stage; the operator is not started yet."""
    api = server.api()
    user = f"operator-of-{namespace}"
    grant(api, namespace, user)
    with ExitStack() as stack:
        background = stack.enter_context(Background())
        upstream = Upstream(server)
        background.call(upstream.open())
        stack.callback(lambda: background.call(upstream.close()))
        proxy = FaultProxy(upstream, user)
        background.call(proxy.open())
        stack.callback(lambda: background.call(proxy.close()))
        witness = Witness(upstream, namespace)
        nodes = NodeStub(upstream, namespace, play)
        background.start(witness.watch())
        background.start(nodes.run())
        operator = OperatorProcess(folder, proxy.kubeconfig(folder), configuration(namespace, **config))
        stack.callback(operator.kill)
        yield Stage(api, namespace, background, proxy, witness, nodes, operator)


def grant(api: KubeApi, namespace: str, user: str) -> None:
    """Give a user exactly the permissions that the operator says it needs."""
    rules = [
        {"apiGroups": [rule.api_group], "resources": [rule.resource], "verbs": list(rule.verbs)}
        for rule in RULES
    ]
    base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
    role_ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "fettle-operator"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    api.request("POST", f"{base}/roles", {"metadata": {"name": "fettle-operator"}, "rules": rules})
    binding = {"metadata": {"name": "fettle-operator"}, "roleRef": role_ref, "subjects": [subject]}
    api.request("POST", f"{base}/rolebindings", binding)
