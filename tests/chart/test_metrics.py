"""Alerts and dashboard speak of metrics and labels that the operator really has."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from fettle_operator.metrics import Metrics
from helm_chart import HelmRefusedError, only, render, selects

if TYPE_CHECKING:
    from collections.abc import Iterator

MONITORING = {
    "metrics": {
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    }
}
# Labels that Prometheus adds, and the one of a histogram's buckets.
FOREIGN_LABELS = {"namespace", "le"}


def known_series() -> dict[str, set[str]]:
    """Return every series of the operator with its labels; a histogram has three."""
    series: dict[str, set[str]] = defaultdict(set)
    for metric in list(Metrics().registry._collector_to_names):
        if not hasattr(metric, "describe"):
            continue
        for family in metric.describe():
            suffixes = {"histogram": ("_bucket", "_count", "_sum"), "counter": ("_total",)}.get(
                family.type, ("",)
            )
            for suffix in suffixes:
                series[family.name + suffix] = set(metric._labelnames)
    return series


def rules() -> Iterator[tuple[str, str]]:
    for group in only(render(MONITORING), "PrometheusRule")["spec"]["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]


def panels() -> Iterator[tuple[str, str]]:
    dashboard = json.loads(
        only(render(MONITORING), "ConfigMap", "-dashboard")["data"]["fettle-operator.json"]
    )
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


def expressions() -> list[tuple[str, str]]:
    return [*rules(), *panels()]


def test_every_series_and_label_exists() -> None:
    series = known_series()
    for title, expression in expressions():
        named = re.findall(r"fettle_\w+", expression)
        assert named, f"{title} looks at nothing of ours"
        for name in named:
            assert name in series, f"{title}: {name} does not exist"
        for label in labels_used(expression) - FOREIGN_LABELS:
            assert all(label in series[name] for name in named), f"{title}: {label} is no label of {named}"


def labels_used(expression: str) -> set[str]:
    grouped = ",".join(re.findall(r"by \(([^)]*)\)", expression))
    matched = re.findall(r"(\w+)\s*(?:=|!=|=~|!~)\s*\"", expression)
    return {word.strip() for word in grouped.split(",") if word.strip()} | set(matched)


def test_every_expression_is_balanced_and_tells_releases_apart() -> None:
    for title, expression in expressions():
        for opening, closing in ("()", "{}", "[]"):
            assert expression.count(opening) == expression.count(closing), title
        if not expression.startswith("label_values"):
            selectors = re.findall(r"fettle_\w+\{([^}]*)\}", expression)
            assert len(selectors) == len(re.findall(r"fettle_\w+", expression)), title
            assert all(selector.startswith("namespace=") for selector in selectors), title


def test_every_metric_is_on_the_dashboard() -> None:
    shown = " ".join(expression for _, expression in panels())
    families = {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in known_series()}

    assert {family for family in families if family not in shown} == set()


def test_labels_of_an_alert_appear_in_its_expression() -> None:
    for group in only(render(MONITORING), "PrometheusRule")["spec"]["groups"]:
        for rule in group["rules"]:
            told = re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])
            assert all(label in rule["expr"] for label in told), rule["alert"]
            assert rule["labels"]["severity"] in {"warning", "critical"}
            assert set(rule["annotations"]) == {"summary", "description"}


def test_the_overdue_alert_follows_the_resync_period() -> None:
    values = {"operator": {"resyncSeconds": 600}, **MONITORING}
    group = only(render(values), "PrometheusRule")["spec"]["groups"][0]

    overdue = next(rule for rule in group["rules"] if rule["alert"] == "FettleResyncOverdue")
    assert overdue["expr"].endswith("> 1800")


def test_the_service_monitor_finds_the_service_and_the_service_finds_the_pod() -> None:
    manifests = render(MONITORING)
    service = only(manifests, "Service")
    monitor = only(manifests, "ServiceMonitor")["spec"]
    pod = only(manifests, "Deployment")["spec"]["template"]

    assert selects(monitor["selector"], service["metadata"]["labels"])
    assert monitor["endpoints"][0]["port"] == service["spec"]["ports"][0]["name"]
    assert service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
    ports = [port["name"] for port in pod["spec"]["containers"][0]["ports"]]
    assert service["spec"]["ports"][0]["targetPort"] in ports


def test_a_service_monitor_without_a_service_is_refused() -> None:
    values = {"metrics": {"service": {"enabled": False}, "serviceMonitor": {"enabled": True}}}

    with pytest.raises(HelmRefusedError, match=r"metrics\.serviceMonitor\.enabled: needs metrics\.service"):
        render(values)


def test_nothing_of_the_prometheus_operator_is_needed_by_default() -> None:
    assert {each["apiVersion"].split("/")[0] for each in render()}.isdisjoint({"monitoring.coreos.com"})
