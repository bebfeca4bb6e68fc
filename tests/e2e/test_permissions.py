"""What the operator may do is what it did over the whole run: the audit log's word against the Role."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from fettle_operator.rbac import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cluster_plugin import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.late(2), pytest.mark.whole_run]

ACCOUNT = re.compile(r"system:serviceaccount:[^:]+:[^:]+-operator")
PROGRAM = re.compile(r"fettle-operator|kopf/")
"""Our own requests, and those of kopf's watches."""


class Act(NamedTuple):
    """One thing that can be done to one kind of object."""

    group: str
    resource: str
    verb: str


GRANTED = frozenset(Act(rule.api_group, rule.resource, verb) for rule in RULES for verb in rule.verbs)


def test_the_operator_asked_for_nothing_that_it_has_no_permission_for(cluster: Cluster, began: float) -> None:
    # What it is refused while its Role is being uninstalled it has asked for rightly.
    assert {act_of(entry) for entry in of_the_operator(cluster, began)} - GRANTED == set()


def test_the_operator_used_every_permission_that_it_has(cluster: Cluster, began: float) -> None:
    used = {act_of(entry) for entry in of_the_operator(cluster, began) if is_allowed(entry)}
    assert GRANTED - used == set()


def of_the_operator(cluster: Cluster, began: float) -> Iterator[dict[str, Any]]:
    """Return every request for an object that an operator of this run made; what tests try with its account they call otherwise."""
    for log in cluster.plan.logs.glob("audit*.log"):
        for line in log.open():
            entry = json.loads(line)
            at = datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp()
            by_account = ACCOUNT.fullmatch(entry["user"]["username"])
            if at >= began and "objectRef" in entry and by_account and PROGRAM.match(entry["userAgent"]):
                yield entry


def act_of(entry: dict[str, Any]) -> Act:
    """Return what was asked for."""
    asked = entry["objectRef"]
    resource = "/".join(part for part in (asked["resource"], asked.get("subresource")) if part)
    return Act(asked.get("apiGroup", ""), resource, entry["verb"])


def is_allowed(entry: dict[str, Any]) -> bool:
    """Say whether RBAC let it pass."""
    return bool(entry["annotations"]["authorization.k8s.io/decision"] == "allow")
