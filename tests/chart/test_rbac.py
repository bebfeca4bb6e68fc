"""Rights: exactly what the operator's own list says, and nothing that a tenant could climb on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fettle_operator.rbac import RULES
from helm_chart import NAMESPACE, VALUE_SETS, of_kind, only, render

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

Right = tuple[str, str, str]
# Verbs and resources by which one gets more than one was given.
FORBIDDEN_VERBS = {"*", "escalate", "bind", "impersonate"}
FORBIDDEN_RESOURCES = {
    "*",
    "secrets",
    "pods/exec",
    "pods/attach",
    "pods/portforward",
    "serviceaccounts",
    "serviceaccounts/token",
    "nodes/proxy",
    "roles",
    "rolebindings",
    "clusterroles",
    "clusterrolebindings",
    "persistentvolumes",
    "namespaces",
    "mutatingwebhookconfigurations",
    "validatingwebhookconfigurations",
}
OURS = {"adapters", "finetunejobs", "inferencedeployments"}


def rights(rules: Iterable[dict[str, Any]]) -> set[Right]:
    return {
        (group, resource, verb)
        for rule in rules
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_operator_gets_exactly_what_its_own_list_says() -> None:
    wanted = {(rule.api_group, rule.resource, verb) for rule in RULES for verb in rule.verbs}

    assert rights(only(render(), "Role")["rules"]) == wanted
    assert rights(only(render({"clusterWide": True}), "ClusterRole", "-operator")["rules"]) == wanted


def test_a_default_installation_has_rights_in_its_own_namespace_alone() -> None:
    manifests = render()

    assert [each["metadata"]["namespace"] for each in of_kind(manifests, "Role")] == [NAMESPACE]
    assert of_kind(manifests, "ClusterRoleBinding") == []


def test_each_watched_namespace_gets_a_role_bound_to_the_operators_account() -> None:
    manifests = render({"watchNamespaces": ["a", "b"]})

    account = only(manifests, "ServiceAccount")["metadata"]
    assert [each["metadata"]["namespace"] for each in of_kind(manifests, "Role")] == ["a", "b"]
    for binding in of_kind(manifests, "RoleBinding"):
        assert binding["subjects"] == [
            {"kind": "ServiceAccount", "name": account["name"], "namespace": account["namespace"]}
        ]
        assert binding["roleRef"]["kind"] == "Role"
    assert [each["metadata"]["namespace"] for each in of_kind(manifests, "RoleBinding")] == ["a", "b"]


def test_a_cluster_wide_installation_needs_no_roles() -> None:
    manifests = render({"clusterWide": True})

    assert of_kind(manifests, "Role", "RoleBinding") == []
    assert only(manifests, "ClusterRoleBinding")["roleRef"]["name"].endswith("-operator")


@pytest.mark.parametrize("values", VALUE_SETS, ids=lambda path: path.stem)
def test_no_role_holds_a_wildcard_or_a_way_to_more_rights(values: Path) -> None:
    for role in of_kind(render(values), "Role", "ClusterRole"):
        for group, resource, verb in rights(role["rules"]):
            assert group != "*"
            assert verb not in FORBIDDEN_VERBS, (role["metadata"]["name"], resource, verb)
            assert resource not in FORBIDDEN_RESOURCES, (role["metadata"]["name"], resource)


@pytest.mark.parametrize("values", VALUE_SETS, ids=lambda path: path.stem)
def test_nothing_is_bound_to_groups_or_people(values: Path) -> None:
    for binding in of_kind(render(values), "RoleBinding", "ClusterRoleBinding"):
        assert [subject["kind"] for subject in binding["subjects"]] == ["ServiceAccount"]


def test_viewers_see_and_editors_change_our_kinds_and_nothing_else() -> None:
    manifests = render()
    viewer, editor = (only(manifests, "ClusterRole", name) for name in ("fettle-viewer", "fettle-editor"))

    assert {verb for _, _, verb in rights(viewer["rules"])} == {"get", "list", "watch"}
    assert {group for role in (viewer, editor) for group, _, _ in rights(role["rules"])} == {"fettle.dev"}
    for role in (viewer, editor):
        assert {resource.split("/")[0] for _, resource, _ in rights(role["rules"])} == OURS
    written = {
        resource for _, resource, verb in rights(editor["rules"]) if verb not in {"get", "list", "watch"}
    }
    assert not {each for each in written if each.endswith("/status")}, "status is the operator's to write"


def test_user_roles_extend_the_clusters_own_only_when_asked_to() -> None:
    labels = [each["metadata"]["labels"] for each in of_kind(render(), "ClusterRole")]
    silent = render({"userRoles": {"aggregate": False}})

    assert labels[0]["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    assert labels[1]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"
    assert "aggregate-to" not in str(of_kind(silent, "ClusterRole"))
    assert of_kind(render({"userRoles": {"enabled": False}}), "ClusterRole") == []
