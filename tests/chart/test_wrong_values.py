"""A wrong value is refused before anything is installed, and the message names it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from helm_chart import CHART, HelmRefusedError, helm, render

RESOURCES = {"requests": {"cpu": 1}, "limits": {"cpu": 1}}

# Values, where the message must point, and what it must say.
WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "an unknown value": ({"replicas": 2}, "", "additional properties 'replicas' not allowed"),
    "a misspelt section": ({"networkpolicy": {}}, "", "'networkpolicy' not allowed"),
    "a misspelt key": ({"operator": {"resyncSecond": 5}}, "/operator", "'resyncSecond' not allowed"),
    "a word for a switch": ({"clusterWide": "yes"}, "/clusterWide", "want boolean"),
    "a namespace in capitals": (
        {"watchNamespaces": ["Team-A"]},
        "/watchNamespaces/0",
        "does not match pattern",
    ),
    "a text for a list": ({"watchNamespaces": "team-a"}, "/watchNamespaces", "want array"),
    "a namespace twice": ({"watchNamespaces": ["a", "a"]}, "/watchNamespaces", "items at 0 and 1 are equal"),
    "a wildcard namespace": ({"watchNamespaces": ["*"]}, "/watchNamespaces/0", "does not match pattern"),
    "a log level that does not exist": (
        {"operator": {"log": {"level": "trace"}}},
        "/operator/log/level",
        "one of",
    ),
    "a resync of zero": ({"operator": {"resyncSeconds": 0}}, "/operator/resyncSeconds", "want 1"),
    "a duration with a unit": (
        {"operator": {"resyncSeconds": "5m"}},
        "/operator/resyncSeconds",
        "want number",
    ),
    "a registry with a scheme": (
        {"images": {"registry": "https://x.dev"}},
        "/images/registry",
        "does not match",
    ),
    "a digest without its kind": (
        {"images": {"trainer": {"digest": "abcd"}}},
        "/images/trainer/digest",
        "does not match pattern",
    ),
    "a tag with a blank": (
        {"images": {"server": {"tag": "a b"}}},
        "/images/server/tag",
        "does not match pattern",
    ),
    "an unknown image": ({"images": {"sidecar": {"tag": "1"}}}, "/images", "'sidecar' not allowed"),
    "a pull policy that does not exist": (
        {"images": {"pullPolicy": "Sometimes"}},
        "/images/pullPolicy",
        "one of",
    ),
    "a pull Secret without a name": ({"imagePullSecrets": ["regcred"]}, "/imagePullSecrets/0", "want object"),
    "a quantity with a wrong unit": (
        {"operator": {"resources": {"limits": {"memory": "512MB"}}}},
        "/operator/resources/limits/memory",
        "does not match pattern",
    ),
    "resources without limits": (
        {"profiles": {"big": {"resources": {"requests": {"cpu": 1}}}}},
        "/profiles/big/resources",
        "missing property 'limits'",
    ),
    "a profile without resources": (
        {"profiles": {"big": {}}},
        "/profiles/big",
        "missing property 'resources'",
    ),
    "a profile's name in capitals": (
        {"profiles": {"Big": {"resources": RESOURCES}}},
        "/profiles",
        "'Big' not allowed",
    ),
    "a command in a profile": (
        {"profiles": {"cpu": {"command": ["sh"]}}},
        "/profiles/cpu",
        "'command' not allowed",
    ),
    "a number in the environment": (
        {"profiles": {"cpu": {"env": {"A": 1}}}},
        "/profiles/cpu/env/A",
        "want string",
    ),
    "a variable that is no name": (
        {"profiles": {"cpu": {"env": {"A-B": "1"}}}},
        "/profiles/cpu/env",
        "'A-B' not allowed",
    ),
    "a negative number of GPUs": (
        {"profiles": {"gpu": {"gpusPerProcess": -1}}},
        "/profiles/gpu/gpusPerProcess",
        "want 0",
    ),
    "a toleration with a wrong effect": (
        {"verifier": {"tolerations": [{"effect": "NoRun"}]}},
        "/verifier/tolerations/0/effect",
        "one of",
    ),
    "no attempt at all": ({"verifier": {"attempts": 0}}, "/verifier/attempts", "want 1"),
    "an address without its width": (
        {"networkPolicy": {"apiServer": {"cidrs": ["10.0.0.1"]}}},
        "/networkPolicy/apiServer/cidrs/0",
        "does not match pattern",
    ),
    "a port too high": (
        {"networkPolicy": {"apiServer": {"ports": [70000]}}},
        "/networkPolicy/apiServer/ports/0",
        "want 65,535",
    ),
    "an empty peer, which would mean everybody": (
        {"networkPolicy": {"metricsFrom": [{}]}},
        "/networkPolicy/metricsFrom/0",
        "minProperties",
    ),
    "a misspelt selector": (
        {"networkPolicy": {"dns": [{"podselector": {}}]}},
        "/networkPolicy/dns/0",
        "'podselector' not allowed",
    ),
    "an interval without a unit": (
        {"metrics": {"serviceMonitor": {"interval": "30"}}},
        "/metrics/serviceMonitor/interval",
        "does not match pattern",
    ),
    "a label that is a number": ({"commonLabels": {"a": 1}}, "/commonLabels/a", "want string"),
    "a raw pod specification": ({"operator": {"podSpec": {}}}, "/operator", "'podSpec' not allowed"),
}


@pytest.mark.parametrize("case", WRONG)
def test_the_message_names_the_wrong_value(case: str) -> None:
    values, where, what = WRONG[case]

    with pytest.raises(HelmRefusedError) as refusal:
        render(values)

    lines = [line for line in str(refusal.value).splitlines() if f"at '{where}'" in line]
    assert lines, f"nothing points at {where!r}: {refusal.value}"
    assert any(what in line for line in lines), lines


def test_two_wrong_values_are_both_named() -> None:
    with pytest.raises(HelmRefusedError) as refusal:
        render({"clusterWide": "yes", "verifier": {"attempts": 0}})

    assert re.search("'/clusterWide'", str(refusal.value))
    assert re.search("'/verifier/attempts'", str(refusal.value))


def test_lint_refuses_what_install_refuses() -> None:
    with pytest.raises(HelmRefusedError, match="'/clusterWide'"):
        helm("lint", str(CHART), "--set-string", "clusterWide=yes")
