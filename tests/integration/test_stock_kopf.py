"""Why the operator's loops are not kopf's handlers (docs/adr/0003): a silent stall, shown on a real API server.

Should the first test fail with a newer kopf, the stall is gone, and the decision may be looked at again.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults import stock_kopf
from faults.rules import Action, Answer, Reset, Rule, is_write, writes_of
from faults.stage import Stage, adapter, eventually
from fettle_operator.resources import ADAPTERS, ApiResource

pytestmark = pytest.mark.apiserver

CONFIGMAPS = ApiResource("", "v1", "configmaps", "ConfigMap")
STALLED_FOR_S = 10.0
"""Ten resync periods of our operator in these tests."""
CONFLICT = Answer(409, reason="Conflict")
FAULTS: dict[str, Action] = {"409": CONFLICT, "reply lost": Reset("after")}


@pytest.fixture
def stock(stage: Stage, tmp_path: Path) -> Iterator[Stage]:
    """Run the stock operator behind the proxy."""
    user = f"operator-of-{stage.namespace}"
    base = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{stage.namespace}"
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list", "watch", "patch"]}]
    role_ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "stock"}
    subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}
    stage.api.request("POST", f"{base}/roles", {"metadata": {"name": "stock"}, "rules": rules})
    binding = {"metadata": {"name": "stock"}, "roleRef": role_ref, "subjects": [subject]}
    stage.api.request("POST", f"{base}/rolebindings", binding)
    with (tmp_path / "stock.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, stock_kopf.__file__, stage.proxy.url, stage.namespace],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env=dict(os.environ),
        )
    watching = lambda: any(r.is_watch and "configmaps" in r.path for r in list(stage.proxy.requests))  # noqa: E731
    eventually(watching, "the stock operator watches")
    yield stage
    process.send_signal(signal.SIGKILL)
    process.wait(5)


def configmap(name: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"stock": "yes"}}}


def handled(stage: Stage, name: str) -> bool:
    found = stage.get(CONFIGMAPS, name) or {"metadata": {}}
    return bool(found["metadata"].get("annotations", {}).get("handled"))


def test_a_stock_handler_stalls_on_one_conflict_until_somebody_touches_the_object(stock: Stage) -> None:
    stock.create(CONFIGMAPS, configmap("clean"))
    eventually(lambda: handled(stock, "clean"), "the stock operator works")
    # By name: the first object's last write may still be under way.
    conflict = stock.rule(
        Rule(lambda request: is_write(request) and request.path.endswith("/faulty"), CONFLICT, times=1)
    )
    stock.create(CONFIGMAPS, configmap("faulty"))
    eventually(lambda: conflict.times == 0, "the fault happened")

    deadline = time.monotonic() + STALLED_FOR_S
    while time.monotonic() < deadline:
        assert not handled(stock, "faulty"), "it healed by itself: kopf has become better, see the ADR"
        time.sleep(0.1)

    stock.patch(CONFIGMAPS, "faulty", {"metadata": {"annotations": {"touched": "yes"}}})
    eventually(lambda: handled(stock, "faulty"), "a touch heals it")


@pytest.mark.parametrize("fault", FAULTS)
def test_our_loop_heals_the_same_fault_untouched(stage: Stage, fault: str) -> None:
    stage.claim()
    stage.operator.start()
    stage.await_ready_operator()
    rule = stage.rule(Rule(writes_of("adapters"), FAULTS[fault], times=1))
    stage.create(ADAPTERS, adapter())
    eventually(lambda: rule.times == 0, "the fault happened")

    stage.await_condition("tuned", "Ready", "Verified")
