"""Every pod and every network rule of the chart, for every value set, against what a shipped pod has to carry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fettle_operator import labels
from helm_chart import NAMESPACE, VALUE_SETS, Manifest, of_kind, only, pods, render, selects

if TYPE_CHECKING:
    from pathlib import Path

VOLUME_KINDS = {"configMap", "projected", "emptyDir"}
LONGEST_TOKEN_S = 3600
every_value_set = pytest.mark.parametrize("values", VALUE_SETS, ids=lambda path: path.stem)


@every_value_set
def test_every_pod_is_restricted(values: Path) -> None:
    for name, _, spec in pods(render(values)):
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert min(security["runAsUser"], security["runAsGroup"], security["fsGroup"]) > 10000, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(spec), name
        for container in spec["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name


@every_value_set
def test_every_pod_gets_a_short_lived_token_by_hand_and_no_service_links(values: Path) -> None:
    for name, _, spec in pods(render(values)):
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["enableServiceLinks"] is False, name
        assert spec["serviceAccountName"] not in {"", "default"}, name
        tokens = [
            source["serviceAccountToken"]
            for volume in spec["volumes"]
            for source in volume.get("projected", {}).get("sources", [])
            if "serviceAccountToken" in source
        ]
        assert [token["expirationSeconds"] for token in tokens] == [LONGEST_TOKEN_S], name


@every_value_set
def test_every_pod_mounts_harmless_and_bounded_volumes(values: Path) -> None:
    for name, _, spec in pods(render(values)):
        for volume in spec["volumes"]:
            assert set(volume) - {"name"} <= VOLUME_KINDS, name
            assert "emptyDir" not in volume or volume["emptyDir"]["sizeLimit"], name


@every_value_set
def test_every_container_asks_for_and_is_limited_in_all_three(values: Path) -> None:
    for name, _, spec in pods(render(values)):
        for container in spec["containers"]:
            for side in ("requests", "limits"):
                assert set(container["resources"][side]) >= {"cpu", "memory", "ephemeral-storage"}, name
            assert not [port for port in container.get("ports", []) if "hostPort" in port], name


@every_value_set
def test_every_image_has_a_tag_or_digest_that_says_what_it_is(values: Path) -> None:
    for name, _, spec in pods(render(values)):
        for container in spec["containers"]:
            reference = container["image"].rsplit("/", 1)[1]
            assert "@sha256:" in reference or ":" in reference, name
            assert not reference.endswith(":latest"), name


def test_the_operator_is_probed_and_runs_alone() -> None:
    deployment = only(render(), "Deployment")["spec"]
    container = deployment["template"]["spec"]["containers"][0]

    assert (deployment["replicas"], deployment["strategy"]) == (1, {"type": "Recreate"})
    for probe, path in (
        ("startupProbe", "/healthz"),
        ("livenessProbe", "/healthz"),
        ("readinessProbe", "/readyz"),
    ):
        assert container[probe]["httpGet"] == {"path": path, "port": "probes"}


def test_clients_find_their_credentials_where_they_look_for_them() -> None:
    spec = only(render(), "Deployment")["spec"]["template"]["spec"]
    mounts = {mount["mountPath"]: mount for mount in spec["containers"][0]["volumeMounts"]}
    mount = mounts["/var/run/secrets/kubernetes.io/serviceaccount"]
    volume = next(each for each in spec["volumes"] if each["name"] == mount["name"])
    files = {
        item["path"]
        for source in volume["projected"]["sources"]
        for kind, content in source.items()
        for item in ([content] if kind == "serviceAccountToken" else content["items"])
    }

    assert mount["readOnly"] is True
    assert files == {"token", "ca.crt", "namespace"}


def test_the_service_account_gives_its_token_to_nobody_by_itself() -> None:
    assert only(render(), "ServiceAccount")["automountServiceAccountToken"] is False


@pytest.mark.parametrize("own", ["app.kubernetes.io/name", "app.kubernetes.io/component"])
def test_labels_of_the_administrator_cannot_replace_those_that_selectors_use(own: str) -> None:
    manifests = render({"commonLabels": {own: "x"}, "operator": {"podLabels": {own: "x"}}})
    deployment = only(manifests, "Deployment")["spec"]

    assert selects(deployment["selector"], deployment["template"]["metadata"]["labels"])


def policy(manifests: list[Manifest], suffix: str) -> dict[str, Any]:
    spec: dict[str, Any] = only(manifests, "NetworkPolicy", suffix)["spec"]
    return spec


@every_value_set
def test_every_pod_of_the_chart_is_behind_a_policy_for_both_directions(values: Path) -> None:
    if values.stem == "without-network-policy":
        assert of_kind(render(values), "NetworkPolicy") == []
        return
    manifests = render(values)
    for name, metadata, _ in pods(manifests):
        behind = [
            each["spec"]
            for each in of_kind(manifests, "NetworkPolicy")
            if each["metadata"]["namespace"] == NAMESPACE
            and selects(each["spec"]["podSelector"], metadata["labels"])
        ]
        assert len(behind) == 1, name
        assert behind[0]["policyTypes"] == ["Ingress", "Egress"]


@every_value_set
def test_no_rule_is_open_to_all_peers_on_all_ports(values: Path) -> None:
    for each in of_kind(render(values), "NetworkPolicy"):
        for rule in [*each["spec"].get("ingress", []), *each["spec"].get("egress", [])]:
            assert rule["ports"], each["metadata"]["name"]


def test_pods_that_the_operator_creates_have_no_network_in_each_watched_namespace() -> None:
    policies = of_kind(render({"watchNamespaces": ["a", "b"]}), "NetworkPolicy")
    closed = [each for each in policies if each["metadata"]["name"].endswith("-workloads")]

    assert [each["metadata"]["namespace"] for each in closed] == ["a", "b"]
    for each in closed:
        assert set(each["spec"]) == {"podSelector", "policyTypes"}
        assert selects(each["spec"]["podSelector"], labels.child_labels("verifier", "Adapter", "a", "u"))


def test_the_operators_own_pod_is_not_mistaken_for_one_it_created() -> None:
    manifests = render()
    template = only(manifests, "Deployment")["spec"]["template"]

    assert not selects(policy(manifests, "-workloads")["podSelector"], template["metadata"]["labels"])


def test_the_operator_reaches_dns_and_the_api_server_and_is_reached_for_metrics_alone() -> None:
    operator = policy(render(), "fettle-operator")

    assert [port["port"] for rule in operator["ingress"] for port in rule["ports"]] == ["metrics"]
    assert [[port["port"] for port in rule["ports"]] for rule in operator["egress"]] == [
        [53, 53],
        [443, 6443],
        [9400],
    ]


def test_trainers_meet_and_are_asked_and_download_and_nothing_else() -> None:
    trainers = policy(render({"networkPolicy": {"downloadsFrom": []}}), "-trainers")

    assert [(rule["ports"][0]["port"], len(rule["from"])) for rule in trainers["ingress"]] == [
        (9400, 1),
        (1024, 1),
    ]
    assert [rule["ports"][0]["port"] for rule in trainers["egress"]] == [1024, 53]
    downloads = policy(render(), "-trainers")["egress"][-1]
    assert [port["port"] for port in downloads["ports"]] == [80, 443]
    assert "169.254.0.0/16" in downloads["to"][0]["ipBlock"]["except"]


def test_a_tight_network_names_every_address_of_the_api_server() -> None:
    cidrs = ["10.96.0.1/32", "192.0.2.10/32"]
    values = {"networkPolicy": {"dns": [], "metricsFrom": [], "apiServer": {"ports": [6443], "cidrs": cidrs}}}
    operator = policy(render(values), "fettle-operator")

    assert operator["egress"][0] == {
        "ports": [{"port": 6443, "protocol": "TCP"}],
        "to": [{"ipBlock": {"cidr": each}} for each in cidrs],
    }
    assert len(operator["egress"]) == 2, "the API server, and trainers"
    assert len(operator["ingress"][0]["from"]) == 1, "helm test is still let in"


def test_nothing_is_reachable_from_outside_the_cluster() -> None:
    for values in VALUE_SETS:
        for service in of_kind(render(values), "Service"):
            assert service["spec"]["type"] == "ClusterIP"
        assert of_kind(render(values), "Ingress", "HTTPRoute") == []
